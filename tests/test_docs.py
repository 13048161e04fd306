"""What the documents say is there: links, keys, names, columns, metrics, examples."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
import yaml
from pydantic import BaseModel

from orchestrator.cli import build_parser
from orchestrator.spec import models
from orchestrator.spec.experiment import Experiment
from orchestrator.spec.load_stages import StopKeys
from orchestrator.spec.loads import WholeLoad
from orchestrator.spec.sections import keys_of
from orchestrator.spec.ties import TIED_VALUES
from runtimes.engines.base import CANONICAL_METRICS, ENGINES
from runtimes.failure import FailureKind
from runtimes.hardware import ACCELERATORS
from runtimes.parallel import DEGREES
from runtimes.presets import LAYOUT_PRESETS, PRECISION_PRESETS
from runtimes.quantization import PRECISIONS
from runtimes.slo import LATENCY_METRICS, Slo, SloLimit
from runtimes.telemetry.nvml import GPU_METRICS
from runtimes.telemetry.throttling import THROTTLE_REASONS
from runtimes.version import __version__
from runtimes.workloads.base import WORKLOADS, WorkloadContext
from runtimes.workloads.lengths import DISTRIBUTIONS
from search.objectives.base import OBJECTIVES
from search.samplers.base import SAMPLERS
from search.trial import TrialState
from tracking.exporter import Exporter
from tracking.layout import RunLayout
from tracking.parquet.schema import requests_schema, samples_schema, stage_schema, trial_schema
from tracking.records import ACCURACY_UNVERIFIED, DISQUALIFYING
from tracking.run_data import Goal

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
EXPERIMENT_FILE = (ROOT / "docs/experiment-file.md").read_text(encoding="utf-8")
RECORD = (ROOT / "docs/record.md").read_text(encoding="utf-8")
ENGINES_PAGE = (ROOT / "docs/engines.md").read_text(encoding="utf-8")
WORKLOADS_PAGE = (ROOT / "docs/workloads.md").read_text(encoding="utf-8")
METRICS = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")

_LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def in_code(text: str, name: str) -> bool:
    """Whether `name` stands as a word of its own inside backquotes."""
    spans = re.findall(r"`([^`\n]+)`", _FENCE.sub("", text))
    return any(re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", span) for span in spans)


def missing(text: str, names: Iterator[str] | list[str]) -> list[str]:
    return [name for name in names if not in_code(text, name)]


def anchors(text: str) -> set[str]:
    """Anchors of the headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", _FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}


def links(document: Path) -> list[str]:
    text = _FENCE.sub("", document.read_text(encoding="utf-8"))
    found = (first or second for first, second in _LINK.findall(text))
    return [link for link in found if not re.match(r"[a-z]+:", link)]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_relative_link_leads_somewhere(document: Path) -> None:
    for link in links(document):
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        assert target.exists(), f"{document.name}: {link} leads nowhere"
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), link


def test_there_are_links_to_check() -> None:
    assert links(ROOT / "README.md")


def test_the_files_that_the_map_names_exist() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    names = set(re.findall(r"`([\w/*]+(?:\.py|/))`", text))
    assert {"scheduler.py", "load/", "search/materialize.py"} <= names
    here = [ROOT, *(ROOT / name for name in ("orchestrator", "runtimes", "search", "tracking"))]
    for name in sorted(names):
        assert any(list(folder.glob(name.rstrip("/"))) for folder in here), f"{name} is gone"


def sections(root: type[BaseModel] = models.Section) -> list[type[BaseModel]]:
    """Every section of the experiment file, or those of one kind."""
    found = [root]
    for section in found:
        found.extend(section.__subclasses__())
    return list(dict.fromkeys(found[1:]))


def words_of(section: type[BaseModel], key: str) -> list[str]:
    """The words that a key takes; none where it takes anything else."""
    return list(get_args(section.model_fields[key].annotation))


def test_every_key_of_the_experiment_file_is_documented() -> None:
    assert models.ExperimentSpec in sections()
    keys = {key for section in sections() for key in keys_of(section)}
    assert {"name", "from_env", "sample_hz", "rate", "max_rate", "from"} <= keys
    assert not missing(EXPERIMENT_FILE, sorted(keys))


def test_every_option_of_an_engine_is_documented() -> None:
    options = {option for engine in ENGINES.entries().values() for option in engine.options}
    assert options
    assert not missing(EXPERIMENT_FILE, sorted(options))


def test_every_setting_of_a_workload_is_documented() -> None:
    for name, workload in WORKLOADS.entries().items():
        settings = {*workload.defaults, *workload.required}
        assert settings, name
        undocumented = missing(EXPERIMENT_FILE, sorted(f"workload.{key}" for key in settings))
        assert not undocumented, name


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("load", [kind for load in sections(StopKeys) for kind in words_of(load, "kind")]),
        ("load generator", words_of(WholeLoad, "engine")),
        ("engine", ENGINES.names()),
        ("workload", WORKLOADS.names()),
        ("objective", OBJECTIVES.names()),
        ("sampler", SAMPLERS.names()),
        ("accelerator", sorted(ACCELERATORS)),
        ("latency", list(LATENCY_METRICS)),
        ("degree", list(DEGREES)),
        ("layout preset", list(LAYOUT_PRESETS)),
        ("precision", list(PRECISIONS)),
        ("precision preset", list(PRECISION_PRESETS)),
        ("tie", list(TIED_VALUES)),
    ],
)
def test_every_registered_name_is_documented(kind: str, names: list[str]) -> None:
    assert names, kind
    assert not missing(EXPERIMENT_FILE, names)


def test_a_name_that_nobody_documents_is_missed() -> None:
    assert missing(EXPERIMENT_FILE, ["ttft_p99_ms", "ttft_p42_ms", "max", "p99_ms"]) == [
        "ttft_p42_ms",
        "p99_ms",
    ]


def test_every_column_of_the_record_is_documented() -> None:
    schemas = [trial_schema({}, ()), stage_schema(), requests_schema(), samples_schema()]
    columns = {name for schema in schemas for name in schema.names}
    assert {"ttft_p99_ms", "chunk_ns", "engine_metric", "deciding_stage"} <= columns
    assert not missing(RECORD, sorted(columns))


def test_every_state_and_disqualifying_flag_is_documented() -> None:
    states = [state.value for state in TrialState if state.is_finished]
    assert not missing(RECORD, [*states, *sorted(DISQUALIFYING), ACCURACY_UNVERIFIED])


def test_the_record_names_every_file_of_a_run() -> None:
    layout = RunLayout(Path("run"))
    names = ["experiment.yaml", "lock", "report.html", "live/status.json"]
    names += ["live/metrics.prom", "live/targets.json"]
    files = {layout.experiment, layout.lock, layout.report, layout.live_status}
    files |= {layout.final_metrics, layout.live_targets}
    assert {path.relative_to("run").as_posix() for path in files} == set(names)
    assert not missing(RECORD, names)
    folders = [layout.trials_dir, layout.stages_dir, layout.requests_dir, layout.samples_dir]
    for folder in [*folders, layout.logs_dir, layout.journal_dir, layout.events_dir]:
        assert f"`{folder.name}/" in RECORD


def fresh_metrics() -> set[str]:
    exporter = Exporter(
        run="r",
        name="n",
        model="m",
        goals=[Goal("goodput", "maximize")],
        slo=Slo((SloLimit("ttft_ms", "p99", 500.0),)),
        capacity_gpus=8,
        version=__version__,
    )
    return set(re.findall(r"^# TYPE (\S+)", exporter.text(), re.MULTILINE))


def test_every_metric_is_documented_and_every_documented_metric_exists() -> None:
    metrics = fresh_metrics()
    assert "servetune_trials_total" in metrics
    documented = set(re.findall(r"^\| `(servetune_\w+)`", METRICS, re.MULTILINE))
    assert documented == metrics


def test_canonical_metrics_are_what_the_record_says() -> None:
    for name in CANONICAL_METRICS:
        assert name.endswith(("_total", "_ratio")) or name.startswith("requests_")
    assert table_names("### Metrics of engines") == list(CANONICAL_METRICS)
    assert table_names("### Metrics of devices") == list(GPU_METRICS)
    reasons = [f"| {bit} | `{name}`" for bit, name in THROTTLE_REASONS.items()]
    assert not [row for row in reasons if row not in RECORD]


def table_names(title: str) -> list[str]:
    """What the first table below a title of the record names in its first column, in order."""
    section = RECORD.partition(f"\n{title}\n")[2]
    rows = section[section.index("|---") :].partition("\n\n")[0].splitlines()[1:]
    return [name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])]


def experiments() -> Iterator[tuple[str, str]]:
    """Every fenced YAML of the documents that is a whole experiment."""
    for document in DOCUMENTS:
        for language, text in _FENCE.findall(document.read_text(encoding="utf-8")):
            if language != "yaml":
                continue
            data = yaml.safe_load(text)
            if isinstance(data, dict) and {"name", "engines"} <= data.keys():
                yield document.name, text


def test_every_experiment_in_the_documents_loads() -> None:
    found = list(experiments())
    assert {"README.md", "experiment-file.md"} <= {document for document, _ in found}
    for document, text in found:
        Experiment.from_dict(yaml.safe_load(text), source=document)


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda p: p.name)
def test_every_example_loads(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in re.findall(r"\$(\w+)", path.read_text(encoding="utf-8")):
        monkeypatch.setenv(variable, str(tmp_path / "absent"))
    Experiment.load(path)


def test_the_readme_names_every_command() -> None:
    names = re.findall(r"^    ([a-z]+) ", build_parser().format_help(), re.MULTILINE)
    assert {"run", "plan"} <= set(names)
    assert not [name for name in names if f"servetune {name}" not in README]


def test_the_documents_name_only_targets_that_the_makefile_has() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        named = set(re.findall(r"\bmake ([a-z-]+)(?=[`\s])", "\n".join(code_in(text))))
        assert named <= targets, f"{document.name} names {sorted(named - targets)}"


def code_in(text: str) -> list[str]:
    """Code spans and fenced blocks."""
    blocks = [block for _, block in _FENCE.findall(text)]
    return [*blocks, *(f"{span}\n" for span in re.findall(r"`([^`\n]+)`", _FENCE.sub("", text)))]


def test_every_kind_of_failure_is_documented_with_what_follows_from_it() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| [^|]+ \| *(\w*) *\|$", ENGINES_PAGE, re.MULTILINE))
    expected = {
        kind.value: "infeasible" if kind.infeasible else "retried" if kind.retryable else ""
        for kind in FailureKind
    }
    assert rows == expected


def test_every_engine_and_degree_is_on_the_engines_page() -> None:
    assert not missing(ENGINES_PAGE, [*ENGINES.names(), *DEGREES])


def test_every_workload_and_distribution_has_an_example() -> None:
    found = [
        yaml.safe_load(text)["workload"]
        for language, text in _FENCE.findall(WORKLOADS_PAGE)
        if language == "yaml"
    ]
    assert {example.get("kind", "synthetic") for example in found} == set(WORKLOADS.names())
    for example in found:
        workload = WORKLOADS.get(example.pop("kind", "synthetic"))
        example.pop("load", None)
        assert set(example) <= {*workload.defaults, *workload.required}
        if "file" not in example:
            workload.from_settings(example, WorkloadContext(vocab=32_000, seed=0))
    settings = {key for kind in WORKLOADS.entries().values() for key in kind.defaults}
    assert not [name for name in [*settings, *DISTRIBUTIONS] if name not in WORKLOADS_PAGE]
