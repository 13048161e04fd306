"""The JSON documents that `--json` prints; their keys are a contract."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping

from orchestrator.cli.next_steps import next_steps
from orchestrator.cli.stdout import write
from runtimes.json_types import Json
from tracking.gain import Gain
from tracking.layout import RunLayout
from tracking.records import TrialRecord
from tracking.run_data import RunData
from tracking.summary import summarise_run
from tracking.why import Loss


def print_json(document: Mapping[str, Json]) -> None:
    """The one document, to stdout."""
    write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def result_document(data: RunData, layout: RunLayout) -> dict[str, Json]:
    """What the last screen says, as data.

    `run`; `best` (`trial`, `objectives`, `command`, `parameters`, …; null while nothing was
    measured); `trials` by state; `ended` and `ending`, why and how; `gains` over engines' defaults;
    `why` others lost; `flagged`, `notes`; `go_on`, commands to paste. Ratios and differences are
    numbers, 0.18 being 18 %; bounds are those of 99 %, null where none are known.
    """
    counts = Counter(trial.state.value for trial in data.last_attempts())
    best = data.best()
    summary = summarise_run(data)
    return {
        "run": data.run,
        "best": None if best is None else best_document(best),
        "trials": dict(sorted(counts.items())),
        "ended": data.ended,
        "ending": data.ending.value,
        "gains": [_gain(gain) for gain in summary.gains],
        "why": [_loss(loss) for loss in summary.why],
        "flagged": [
            {"flag": each.flag, "words": each.words, "trials": list(each.trials)}
            for each in summary.flagged
        ],
        "notes": list(summary.caveats),
        "go_on": [command for _, command in next_steps(data, layout)],
    }


def _gain(gain: Gain) -> dict[str, Json]:
    return {
        "engine": gain.engine,
        "trial": gain.trial,
        "objective": gain.objective,
        "ratio": gain.ratio,
        "low": gain.low,
        "high": gain.high,
        "verdict": gain.verdict.value,
        "breaks": [str(verdict.limit) for verdict, _ in gain.unmet],
        "doubts": list(gain.doubts),
        "comparable": gain.comparable,
        "words": gain.words,
    }


def _loss(loss: Loss) -> dict[str, Json]:
    return {
        "role": loss.role.value,
        "trial": loss.trial,
        "against": loss.best,
        "objective": loss.objective,
        "difference": loss.difference.relative,
        "low": loss.difference.low,
        "high": loss.difference.high,
        "verdict": loss.difference.verdict.value,
        "breaks": [str(verdict.limit) for verdict in loss.unmet],
        "reasons": [
            {
                "cause": reason.cause.value,
                "words": reason.words,
                "figures": {
                    name: {"trial": worse, "against": best}
                    for name, (worse, best) in reason.figures.items()
                },
            }
            for reason in loss.reasons
        ],
        "words": loss.words,
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
