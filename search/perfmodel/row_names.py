"""Names that published tables of measurements use, and what we call the same thing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache

from runtimes.errors import UnknownNameError
from runtimes.hardware import ACCELERATORS, Accelerator, find_accelerator
from runtimes.model import ModelFacts, closest_model, find_named_model, known_models

_MODELS = {
    "bloom-176b": "bigscience/bloom",
    "gpt-j-6b": "EleutherAI/gpt-j-6b",
    "llama-1/2-7b": "meta-llama/Llama-2-7b",
    "llama-1/2-13b": "meta-llama/Llama-2-13b",
    "llama-1/2-70b": "meta-llama/Llama-2-70b",
    "falcon-180b": "tiiuae/falcon-180B",
    # TensorRT-LLM attends to all tokens unless it is told a window, and the tables tell none.
    "mistral-7b": "mistralai/Mistral-7B-Instruct-v0.2",
}
"""Short names that no rule below reads right, in lower case, spaces as hyphens."""

_FORM = re.compile(r"-(sxm\d?|oam|nvl\d\d)\b|-?\(x\d+\)$|\((r|tm)\)")
_MEMORY = re.compile(r"-\d+-?gb(-hbm\d?e?)?\b")
_MAKERS = re.compile(r"^(nvidia|amd|intel|habana|virtualized|instinct)[ -]+")
_ACCELERATORS = {
    "a100": "A100-80GB",
    "gh200": "GH200-96GB",
    "pvc": "Max-1550",
    "rtx-pro-6000-server": "RTX-PRO-6000",
    "rtx-pro-6000-blackwell-server-edition": "RTX-PRO-6000",
}
_POWER = re.compile(r"[ -]?\(?power[ -]?cap[^)]*\)?")

_ENGINES = (
    ("tensorrt", "tensorrt_llm"),
    ("trt", "tensorrt_llm"),
    ("sglang", "sglang"),
    ("vllm", "vllm"),
)
"""Word in the name a table gives an engine → ours; the first that fits."""
_NEAREST = (
    ("atom", "vllm"),
    ("llmboost", "vllm"),
    ("aiter", "vllm"),
    ("mii", "vllm"),
    ("deepspeed", "vllm"),
    ("llama.cpp", "vllm"),
    ("sambaflow", "vllm"),
)
"""Engines we do not know → the one that is predicted in their place."""


@cache
def row_model(name: str) -> ModelFacts | None:
    """Facts of the model that a table calls `name`; quantisation as its name says.

    Besides ids, names without their publisher are known, another publisher's quantisation of a
    catalogued model, and names that leave out what tells nothing apart (`Llama-4-Scout`).
    """
    plain = name.strip().lower().replace(" ", "-")
    if plain in _MODELS:
        return find_named_model(_MODELS[plain])
    publisher, slash, _ = plain.partition("/")
    named = find_named_model(name.strip())
    if slash and any(each.lower().startswith(f"{publisher}/") for each in known_models()):
        return named or _by_bare_name(plain)
    return _by_bare_name(plain) or named


def _by_bare_name(plain: str) -> ModelFacts | None:
    bare = re.sub(r"^llama(?=\d)", "llama-", plain.rsplit("/", 1)[-1])
    found: list[tuple[int, ModelFacts]] = []
    longer: list[str] = []
    for known in known_models():
        publisher, _, known_bare = known.partition("/")
        if bare.startswith(known_bare.lower()):
            facts = find_named_model(f"{publisher}/{bare}")
            if facts is not None:
                found.append((len(known_bare), facts))
        elif known_bare.lower().startswith(f"{bare}-"):
            longer.append(known)
    if found:
        return max(found, key=lambda each: each[0])[1]
    candidates = [facts for facts in map(find_named_model, longer) if facts is not None]
    shapes = {(each.parameters, each.windowed_layers) for each in candidates}
    return candidates[0] if len(shapes) == 1 else None


def unknown_model(name: str) -> str:
    """Why there is no answer for a model called `name`."""
    close = closest_model(name)
    suggestion = f"; did you mean {close!r}?" if close else ""
    return f"unknown model {name!r}{suggestion}"


@dataclass(frozen=True, slots=True)
class NamedAccelerator:
    """An accelerator, and what of its name its facts leave out (empty when nothing)."""

    accelerator: Accelerator
    caveat: str = ""


@cache
def row_accelerator(name: str, *, small_a100: bool = False) -> NamedAccelerator | None:
    """The accelerator that a table calls `name`, form factor and maker's words aside.

    Args:
        name: as the table has it.
        small_a100: True where a bare `A100` is the one with 40 GB.
    """
    plain = name.strip().lower()
    capped = _POWER.search(plain) is not None
    caveat = "the accelerator runs with a power cap" if capped else ""
    plain = _POWER.sub("", plain).strip()
    while _MAKERS.match(plain):
        plain = _MAKERS.sub("", plain)
    plain = re.sub(r"[ _]+", "-", plain)
    if plain == "a100" and small_a100:
        plain = "a100-40gb"
    without_form = _FORM.sub("", plain)
    for candidate in (plain, without_form, _MEMORY.sub("", without_form)):
        try:
            found = find_accelerator(_ACCELERATORS.get(candidate, candidate))
        except UnknownNameError:
            continue
        return NamedAccelerator(found, caveat)
    return None


def unknown_accelerator(name: str) -> str:
    """Why there is no answer for an accelerator called `name`."""
    if not name.strip():
        return "the row names no accelerator"
    known = {each.lower(): each for each in ACCELERATORS}
    close = get_close_matches(name.lower(), list(known), n=1, cutoff=0.6)
    suggestion = f"; did you mean {known[close[0]]!r}?" if close else ""
    return f"unknown accelerator {name!r}{suggestion}"


@cache
def row_engine(name: str) -> tuple[str, str]:
    """Our name of an engine, and a caveat that is empty for one that we know."""
    lowered = name.lower()
    for word, engine in _ENGINES:
        if word in lowered:
            return engine, ""
    for word, engine in _NEAREST:
        if word in lowered:
            return engine, f"no measurements of {name!r} stand behind it: predicted as {engine}"
    shown = f"engine {name!r} is unknown" if name.strip() else "the row names no engine"
    return "vllm", f"{shown}: predicted as vllm"
