"""Tune from Python: what `servetune run` does, as a script.

    python examples/driver.py [EXPERIMENT.yaml]

Without a file it tunes the experiment below, on simulated GPUs of this machine, in half a minute.
On a Ray cluster: `ray submit cluster.yaml examples/driver.py -- servetune/examples/llama-70b.yaml`.
"""

from __future__ import annotations

import sys

from orchestrator import Experiment, Observer, run
from runtimes.json_types import Json
from tracking.records import TrialRecord
from tracking.words import shell_command

EXPERIMENT: dict[str, Json] = {
    "name": "driver",
    "model": "meta-llama/Llama-3.1-8B-Instruct",
    "engines": {
        "simulated": {
            "imitates": "vllm",
            "search": {"max-num-seqs": [4, 16], "max-num-batched-tokens": [512, 2048]},
        }
    },
    "parallel": {"tp": [1, 2]},
    "workload": {
        "input_tokens": 128,
        "output_tokens": 16,
        "load": {"kind": "concurrency", "value": 8, "requests": 32},
    },
    "slo": {"ttft_ms": {"p99": 500}},
    "objectives": [{"maximize": "goodput_per_gpu"}],
    "budget": {"trials": 4},
    "cluster": {"kind": "local", "simulated_gpus": 4, "accelerator": "H100"},
}


class Lines(Observer):
    """One line a finished trial; an observer hears everything that happens, as it happens."""

    def finished(self, record: TrialRecord, retry: bool) -> None:
        figures = ", ".join(f"{name} {value:.3g}" for name, value in record.objectives.items())
        doubts = f", in doubt: {' '.join(sorted(record.doubts))}" if record.doubts else ""
        print(f"trial {record.number}: {record.state.value} {figures}{doubts}", flush=True)


def main() -> int:
    """Run the experiment that the first argument names, or `EXPERIMENT`; print the best trial."""
    experiment = (
        Experiment.load(sys.argv[1]) if len(sys.argv) > 1 else Experiment.from_dict(EXPERIMENT)
    )
    result = run(experiment, observers=[Lines()])
    print(f"record: {result.folder}")
    if result.best is None:
        print(f"nothing was measured: {result.reason}")
        return 1
    print(f"best: trial {result.best.number}, {dict(result.best.objectives)}")
    print(shell_command(result.best.deploy_command, result.best.env))
    return 0


if __name__ == "__main__":
    sys.exit(main())
