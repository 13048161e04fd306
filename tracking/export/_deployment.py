"""One measured trial as something to start elsewhere."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from runtimes.errors import UnknownNameError, UserError
from runtimes.hardware import find_accelerator
from runtimes.json_types import Json
from runtimes.model import find_model
from runtimes.plan import FILES, HOST, PORT, ProcessPlan, pasted
from runtimes.secrets import MASK
from search.trial import TrialState
from tracking.export._nodes import nodes_of
from tracking.pareto import meets_slo
from tracking.records import TrialRecord
from tracking.run_data import RunData
from tracking.summary import all_flags
from tracking.words import count, flag_words, objective_value, objective_words, printable

HEALTH_PATH = "/health"
"""Where all three engines say over HTTP that they serve."""

_OWN_VARIABLES = "SERVETUNE_"
_DEVICES = "CUDA_VISIBLE_DEVICES"  # the devices of the node that it was measured on
_SIMULATED = "simulated"
_MAX_PORT = 65535
_OFFLINE = frozenset({"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"})


@dataclass(frozen=True, slots=True)
class Deployment:
    """A trial, ready to be written down for a target.

    Attributes:
        run, trial: where it comes from.
        engine: the engine that serves: the imitated one where a simulated one was measured.
        version: of the engine, as it was measured; empty when it did not say.
        image: container image it was measured in; empty for none.
        argv: command of one server, on node 0; `{host}`, `{port}` and, over several nodes, the
            placeholders of their meeting point stand in it.
        files: files that the command reads from the folder it is started in, by name.
        whole: the command that starts all servers on one machine, their files included.
        servers: servers that share the load. `nodes`: nodes of each.
        gpus: GPUs of each server.
        gpu_model: what the driver, or the user, calls them.
        env: variables to set. `secrets`: names of those whose values nobody recorded.
        model: Hub id or folder. `revision`: of a Hub model; empty for the default.
        weight_bytes: of the model's weights as they are stored; None when nothing is known.
        startup_s: seconds from start to ready, measured; None when nothing was.
        warnings: what speaks against deploying it, one sentence each.
        notes: what else to know, one sentence each, the trial's figures first.
    """

    run: str
    trial: int
    engine: str
    version: str
    image: str
    argv: tuple[str, ...]
    files: Mapping[str, str]
    whole: tuple[str, ...]
    servers: int
    nodes: int
    gpus: int
    gpu_model: str
    env: Mapping[str, str]
    secrets: tuple[str, ...]
    model: str
    revision: str
    weight_bytes: int | None
    startup_s: float | None
    warnings: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def local_model(self) -> bool:
        """True when the model is a folder, which has to be where the server runs."""
        return self.model.startswith(("/", "./", "../", "~"))

    @property
    def gpus_per_node(self) -> int:
        return -(-self.gpus // self.nodes)

    def started(self, host: str, port: int) -> tuple[str, ...]:
        """The command of one server of one node, which writes its files first."""
        argv = filled(self.argv, host=host, port=port)
        if not self.files:
            return argv
        writes = [
            f"printf '%s\\n' {shlex.join(text.rstrip(chr(10)).split(chr(10)))} > {name}"
            for name, text in self.files.items()
        ]
        return ("sh", "-c", " && ".join([*writes, f"exec {shlex.join(argv)}"]))

    def all_started(self, host: str, port: int) -> tuple[str, ...]:
        """The command of all servers, one after another from `port` on.

        Raises:
            UserError: there are not as many ports.
        """
        if port + self.servers - 1 > _MAX_PORT:
            raise UserError(
                f"--port {port}: trial {self.trial} has {self.servers} servers, which take as many "
                f"ports; {_MAX_PORT - self.servers + 1} is the last to begin with"
            )
        if self.servers == 1:
            return self.started(host, port)
        return tuple(part.replace(HOST, host).replace(PORT, str(port)) for part in self.whole)


def filled(argv: tuple[str, ...], **values: object) -> tuple[str, ...]:
    """`argv` with its placeholders replaced; a user's own braces stay."""
    return ProcessPlan(argv).command(**values)


def deployment_of(data: RunData, trial: TrialRecord) -> Deployment:
    """What `trial` of the run `data` comes to.

    Raises:
        UserError: nothing was measured in it, or the server measured is somebody else's.
    """
    if trial.state is not TrialState.COMPLETED:
        raise UserError(
            f"trial {trial.number} of {data.run} is {trial.state.value}: nothing was measured "
            f"that could be deployed. {_completed_words(data)}"
        )
    if not trial.deploy_command:
        raise UserError(
            f"trial {trial.number} of {data.run} measured a server that runs already "
            f"(engine {trial.engine}): there is nothing to deploy"
        )
    engine = _served_by(data, trial)
    argv, files = _one_server(engine, trial)
    servers = trial.layout.dp if files else 1
    env = {
        name: value
        for name, value in sorted(trial.env.items())
        if not name.startswith(_OWN_VARIABLES) and name != _DEVICES
    }
    return Deployment(
        run=data.run,
        trial=trial.number,
        engine=engine,
        version=trial.engine_version,
        image=str(_environment(data, trial).get("image") or ""),
        argv=argv,
        files=files,
        whole=trial.deploy_command,
        servers=servers,
        nodes=nodes_of(engine, argv),
        gpus=max(trial.gpus // servers, 1),
        gpu_model=trial.gpu_model,
        env={name: value for name, value in env.items() if MASK not in value},
        secrets=tuple(name for name, value in env.items() if MASK in value),
        model=trial.model,
        revision=trial.model_revision or "",
        weight_bytes=_weight_bytes(trial),
        startup_s=trial.startup_s,
        warnings=tuple(map(one_line, _warnings(data, trial))),
        notes=tuple(map(one_line, _notes(data, trial, engine))),
    )


def chosen_trial(data: RunData, which: str) -> TrialRecord:
    """The trial that a user calls `best`, `lossless` or by its number.

    Raises:
        UserError: there is none.
    """
    if which in ("best", "lossless"):
        trial = data.best() if which == "best" else data.best_lossless()
        if trial is None:
            kind = " whose precision costs no accuracy" if which == "lossless" else ""
            raise UserError(f"{data.run}: no completed trial{kind}. {_completed_words(data)}")
        return trial
    known = {str(trial.number): trial for trial in data.last_attempts()}
    if which not in known:
        raise UserError(
            f"--trial {one_line(which)}: {data.run} has no such trial; write best, lossless or a "
            f"trial's number. {_completed_words(data)}"
        )
    return known[which]


def one_line(text: str) -> str:
    """`text` as it may stand in a comment: no line ends, no control characters."""
    return " ".join(printable(text).split())


def label(text: str, default: str = "servetune") -> str:
    """`text` as a DNS label of at most 50 characters, so that something can be appended to it."""
    safe = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:50].strip("-")
    return safe if safe[:1].isalpha() else f"{default}-{safe}".strip("-")


def vendor(deployment: Deployment) -> str:
    """Who makes its devices: a vendor of `runtimes.hardware`, `none` for a CPU, empty unknown."""
    name = deployment.gpu_model
    if name.lower() == "cpu":
        return "none"
    try:
        return find_accelerator(name).vendor
    except UnknownNameError:
        return "nvidia" if "nvidia" in name.lower() else ""


def _served_by(data: RunData, trial: TrialRecord) -> str:
    if trial.engine != _SIMULATED:
        return trial.engine
    return str(_engine_section(data, trial).get("imitates", "vllm"))


def _weight_bytes(trial: TrialRecord) -> int | None:
    try:
        facts = find_model(trial.model, trial.model_revision)
    except (UserError, OSError):  # a folder that is not readable here may be where it is served
        return None
    return None if facts is None else facts.weight_bytes


def _one_server(engine: str, trial: TrialRecord) -> tuple[tuple[str, ...], dict[str, str]]:
    """The command of one server, and the files it reads.

    What TensorRT-LLM's users paste writes its YAML file and starts every server: the lines of the
    file stand between `printf`'s format and the redirection, the server's own command apart.
    """
    paste = trial.deploy_command
    if engine != "tensorrt_llm" or paste[:2] != ("sh", "-c"):
        return paste, {}
    words = shlex.shlex(paste[2], posix=True, punctuation_chars=True)
    words.whitespace_split = True
    tokens = list(words)
    end = tokens.index(">")
    text = "".join(f"{line}\n" for line in tokens[2:end])
    argv = tuple(part.removeprefix(f"{FILES}/") for part in pasted(trial.command))
    return argv, {tokens[end + 1]: text}


def _engine_section(data: RunData, trial: TrialRecord) -> Mapping[str, Json]:
    engines = data.experiment.get("engines")
    section = engines.get(trial.engine) if isinstance(engines, Mapping) else None
    return section if isinstance(section, Mapping) else {}


def _environment(data: RunData, trial: TrialRecord) -> Mapping[str, Json]:
    environment = _engine_section(data, trial).get("environment")
    return environment if isinstance(environment, Mapping) else {}


def _warnings(data: RunData, trial: TrialRecord) -> Iterator[str]:
    if trial.simulated:
        yield (
            "Measured on a simulated engine: its figures are a model's, no GPU served anything. "
            "Measure the command on real hardware before you rely on it."
        )
    if not meets_slo(trial):
        verdicts = trial.measurement.slo if trial.measurement is not None else ()
        broken = ", ".join(str(verdict.limit) for verdict in verdicts if not verdict.met)
        yield f"Breaks the service-level objective ({broken or 'not measured'})."
    if data.experiment.get("weights") == "dummy":
        yield (
            "Measured with random weights (`weights: dummy`), which the command loads as well: "
            "take that out before you serve anybody."
        )
    for flag in all_flags(trial):
        yield f"Flagged {flag}: {flag_words(flag)}."


def _notes(data: RunData, trial: TrialRecord, engine: str) -> Iterator[str]:
    devices = f"{trial.gpus} × {trial.gpu_model or 'GPU'}"
    version = f" {trial.engine_version}" if trial.engine_version else ""
    yield f"Trial {trial.number} of {data.run}: {engine}{version} on {devices}."
    figures = [
        f"{objective_words(name)} {objective_value(name, value)}"
        for name, value in trial.objectives.items()
    ]
    if figures:
        yield f"Measured: {'; '.join(figures)}."
    if "VLLM_SERVER_DEV_MODE" in trial.env:
        yield "VLLM_SERVER_DEV_MODE opens routes for developers: take it out for others' use."
    if offline := sorted(_OFFLINE & set(trial.env)):
        yield f"{', '.join(offline)} cuts it off the Hub: its cache has to hold the model."


def _completed_words(data: RunData) -> str:
    completed = [
        str(trial.number) for trial in data.last_attempts() if trial.state is TrialState.COMPLETED
    ]
    if not completed:
        total = count(len(data.last_attempts()), "trial")
        return f"None of its {total} is completed; `servetune status {data.argument}` says why."
    shown = ", ".join(completed[:12]) + (", …" if len(completed) > 12 else "")
    return f"Completed trials: {shown}."
