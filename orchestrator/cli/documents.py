"""The JSON documents that `--json` prints; their keys are a contract."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping

from orchestrator.cli.stdout import write
from runtimes.json_types import Json
from tracking.records import TrialRecord
from tracking.run_data import RunData


def print_json(document: Mapping[str, Json]) -> None:
    """The one document, to stdout."""
    write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def result_document(data: RunData) -> dict[str, Json]:
    """`{"run", "best": {"trial", "objectives", "command", "parameters", …} | null, "trials"}`."""
    counts = Counter(trial.state.value for trial in data.last_attempts())
    best = data.best()
    return {
        "run": data.run,
        "best": None if best is None else best_document(best),
        "trials": dict(sorted(counts.items())),
    }


def best_document(best: TrialRecord) -> dict[str, Json]:
    """The winner; `{host}` and `{port}` stay placeholders in its command."""
    return {
        "trial": best.number,
        "objectives": dict(best.objectives),
        "command": list(best.deploy_command),
        "parameters": dict(best.params),
        "engine": best.engine,
        "gpus": best.gpus,
        "env": {k: v for k, v in best.env.items() if not k.startswith("SERVETUNE_")},
        "slo_met": best.measurement.slo_met if best.measurement is not None else None,
        "simulated": best.simulated,
        "flags": list(best.flags),
    }
