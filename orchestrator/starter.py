"""A commented experiment file to start from: what to search in each engine, and why."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from orchestrator.naming import run_name
from orchestrator.spec.experiment import Experiment
from orchestrator.starter_layouts import StarterLayouts, suggest
from runtimes.engines._search import SearchHint
from runtimes.engines.base import ENGINES, create_engine
from runtimes.errors import UserError
from runtimes.hardware import Accelerator, find_accelerator
from runtimes.json_types import Json
from runtimes.model import ModelFacts, find_model

_WIDTH = 96
_SHORTER_CONTEXT: Mapping[str, str] = {
    "vllm": "max-model-len",
    "sglang": "context-length",
    "tensorrt_llm": "max_seq_len",
}
"""Engine → its argument for the longest context, the one that most often has to be fixed."""


@dataclass(frozen=True, slots=True)
class StarterRequest:
    """What a user asks of `servetune init`.

    Attributes:
        engines: names, in the order they are to stand.
        model: Hub id, or path of a folder.
        gpus: GPUs of one node.
        accelerator: name of what the node has; None when it is not known.
    """

    engines: tuple[str, ...]
    model: str
    gpus: int
    accelerator: str | None = None


def default_path(model: str) -> str:
    """The file's name where none is given."""
    return f"{run_name(model)}.yaml"


def starter_file(request: StarterRequest, *, path: str) -> str:
    """The text of the file, which `servetune plan` accepts as it stands.

    Args:
        request: for what.
        path: where it will be, for the commands in its head.

    Raises:
        UserError: an unknown engine or accelerator, or a model folder that cannot be read.
        SpecError: what is asked for makes no experiment, as a simulation of an unknown model.
    """
    if not request.engines:
        raise UserError(f"--engine: names none; known: {', '.join(ENGINES.names())}")
    for engine in request.engines:
        ENGINES.get(engine)
    if not request.model:
        raise UserError("--model: names none; write a Hub id or a model folder")
    if request.gpus < 1:
        raise UserError(f"--gpus {request.gpus}: a node has at least 1")
    simulated = [name for name in request.engines if "imitates" in ENGINES.get(name).options]
    if simulated and not request.accelerator:
        raise UserError(
            f"--accelerator: {simulated[0]} needs to know what it imitates; name one, as H100"
        )
    accelerator = find_accelerator(request.accelerator) if request.accelerator else None
    model = find_model(request.model)
    text = "\n".join(_lines(request, model, accelerator, path)) + "\n"
    Experiment.from_dict(yaml.safe_load(text), source=path)
    return text


def _lines(
    request: StarterRequest, model: ModelFacts | None, accelerator: Accelerator | None, path: str
) -> Iterator[str]:
    layouts = suggest(model, accelerator, request.gpus)
    ours = [name for name in request.engines if not ENGINES.get(name).attaches]
    yield from _head(request, accelerator, path)
    yield ""
    yield "engines:"
    for name in request.engines:
        yield from _engine(name, model, accelerator)
    if ours:
        yield ""
        yield from _parallel(layouts)
        yield ""
        yield from _quantization(model, accelerator)
    yield ""
    yield from _load()
    yield ""
    yield from _search()
    yield ""
    yield from _cluster(request, layouts, accelerator)


def _head(request: StarterRequest, accelerator: Accelerator | None, path: str) -> Iterator[str]:
    device = f" on {request.gpus} × {accelerator.name}" if accelerator else ""
    yield from _comment(f"{', '.join(request.engines)}: {request.model}{device}.")
    yield f"# See what it would run: servetune plan {path}"
    yield f"# Run it:                servetune run {path}"
    yield from _comment(
        "[a, b] tries each value, a single value is fixed, {int: [low, high]} is a range, and a "
        "value with `when` is searched only where that holds."
    )
    yield ""
    yield f"name: {run_name(request.model)}"
    if Path(request.model).exists():
        folder = str(Path(request.model).resolve())
        yield f"model: {{path: {_flow(folder)}}}  # the same on every node"
        return
    yield f"model: {{id: {_flow(request.model)}}}  # `revision:` names a branch, tag or commit"


def _engine(name: str, model: ModelFacts | None, accelerator: Accelerator | None) -> Iterator[str]:
    engine = ENGINES.get(name)
    yield f"  {name}:"
    for option, example in engine.required_options.items():
        yield f"    {option}: {_flow(example)}"
    if engine.attaches:
        yield "    # Measured as it is: it runs already and is never started or stopped."
        return
    imitated = engine.options.get("imitates")
    if isinstance(imitated, str):
        yield f"    imitates: {imitated}"
    else:
        yield "    # Where it is installed; without this, its command on PATH."
        yield f"    # environment: {{python: /opt/{name}/bin/python}}"
    hints = create_engine(imitated if isinstance(imitated, str) else name).search_hints(
        model, accelerator
    )
    if not hints:
        yield "    search: {}"
        return
    if name in _SHORTER_CONTEXT:
        yield "    # Fixed arguments; a shorter context needs less memory."
        yield f"    # args: {{{_SHORTER_CONTEXT[name]}: 8192}}"
    yield "    search:"
    plain = [hint for hint in hints if not hint.advanced]
    advanced = [hint for hint in hints if hint.advanced]
    for hint in plain:
        yield from _hint(hint, "      ")
    if advanced:
        yield ""
        yield "      # Take in what suits your load; each of these makes the search longer."
    for hint in advanced:
        yield from _hint(hint, "      ")


def _hint(hint: SearchHint, indent: str) -> Iterator[str]:
    """Its reason, and below it the key; both behind a further `#` when it is advanced."""
    domain: Json = hint.values
    if hint.when:
        form = hint.values if isinstance(hint.values, dict) else {"choice": hint.values}
        domain = {**form, "when": hint.when}
    mark = f"{indent}# " if hint.advanced else indent
    yield from _comment(hint.why, mark)
    flow = _flow(domain)
    if len(f"{mark}{hint.name}: {flow}") <= _WIDTH:
        yield f"{mark}{hint.name}: {flow}"
        return
    yield f"{mark}{hint.name}:"
    rows = domain.items() if isinstance(domain, dict) else ()
    yield from (f"{mark}  {key}: {_flow(value)}" for key, value in rows)
    items = domain if isinstance(domain, list) else ()
    yield from (f"{mark}  - {_flow(value)}" for value in items)


def _parallel(layouts: StarterLayouts) -> Iterator[str]:
    yield "parallel:"
    yield from _comment(layouts.why, "  ")
    if layouts.presets:
        yield from _comment(
            "Beside the lists below: experts spread over the node, each GPU attending to "
            "requests of its own.", "  ",
        )  # fmt: skip
        yield f"  presets: {_flow(list(layouts.presets))}"
    else:
        yield "  # presets: [balanced, large-model-tp]  # layouts by name, beside or instead"
    yield f"  tp: {_flow(list(layouts.tp))}  # GPUs that share each layer"
    yield f"  pp: {_flow(list(layouts.pp))}  # groups of layers, one after the other"
    yield f"  dp: {_flow(list(layouts.dp))}  # replicas"
    yield "constraints:"
    yield f'  - "gpus <= {layouts.gpus}"'


def _quantization(model: ModelFacts | None, accelerator: Accelerator | None) -> Iterator[str]:
    stored = model.quantization if model is not None else None
    if stored is not None:
        weights = f" ({stored.weights})" if stored.weights else ""
        yield from _comment(f"The checkpoint is quantised already: {stored.method}{weights}.")
        return
    if accelerator is not None and accelerator.supports("fp8") is False:
        yield from _comment(f"{accelerator.name} does not multiply in 8-bit floats.")
        return
    yield from _comment(
        "Weights in 8 bits, quantised as they are loaded: half the memory. A winner with less "
        "precision than the checkpoint is labelled as one whose accuracy nobody has checked."
    )
    yield "# quantization: {presets: [default, dynamic-fp8]}"


def _load() -> Iterator[str]:
    yield "workload:"
    yield "  kind: synthetic"
    yield "  input_tokens: 1024  # or {mean: 1024, stddev: 256}"
    yield "  output_tokens: 256"
    yield "  load: {kind: concurrency, value: 32}  # or {kind: poisson, rate: 8}, per second"
    yield "  # load: {kind: max_under_slo}  # or the highest rate at which the limits below hold"
    yield ""
    yield "# What makes a request good, in milliseconds."
    yield "slo:"
    yield "  ttft_ms: {p99: 1000}  # time to the first token"
    yield "  tpot_ms: {p99: 50}  # time per token after it"
    yield "objectives:"
    yield "  - {maximize: goodput_per_gpu}  # good requests a second and GPU"


def _search() -> Iterator[str]:
    yield "search: {sampler: auto, seed: 7, baseline: true}  # baseline: the defaults first"
    yield "budget: {trials: 40, wall_clock: 6h}"


def _cluster(
    request: StarterRequest, layouts: StarterLayouts, accelerator: Accelerator | None
) -> Iterator[str]:
    simulated = any("imitates" in ENGINES.get(name).options for name in request.engines)
    yield "cluster:"
    yield "  kind: ray"
    yield "  address: auto  # or local: a Ray of its own on this machine"
    if accelerator is not None:
        yield f"  accelerator: {accelerator.name}"
    else:
        yield "  # accelerator: H100  # lets rules of memory and precision decide before the start"
    yield f"  gpus_per_node: {request.gpus}"
    if simulated:
        yield f"  simulated_gpus: {layouts.gpus}"
    yield f"  max_gpus: {layouts.gpus}"
    yield "  # gpu_price_per_hour: 3.5  # for cost_per_million_tokens as an objective"
    yield "# weights: dummy  # random weights: nothing is downloaded, answers mean nothing"
    yield "results: ./runs"


def _comment(text: str, indent: str = "") -> Iterator[str]:
    """Lines of a comment, wrapped."""
    lead = f"{indent}# "
    lines = textwrap.wrap(text, _WIDTH - len(lead), break_long_words=False, break_on_hyphens=False)
    yield from (f"{lead}{line}" for line in lines)


def _flow(value: Json) -> str:
    """`value` as YAML on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, sort_keys=False)
    return text.removesuffix("...\n").strip()
