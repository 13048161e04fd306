"""How long a large run takes to open, to list, and to give the requests of one trial.

    python -m benchmarks.record_open [--trials 10000] [--requests 5000] [--real 400] [--out FILE]

Makes up the folder of a run as its driver leaves it, then opens it in a process of its own. Trials
and stages are whole. Requests are written for `--real` trials only, spread over the run: to find
those of one trial a reader opens the files whose name covers its number, and of them reads the row
groups that hold it, however many other files there are. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from benchmarks.record_write import records
from runtimes.json_types import Json
from tests.tracking.run_samples import measurement, trial_record
from tracking.layout import TABLES, RunLayout
from tracking.parquet.merge import gather_stages
from tracking.parquet.upkeep import Upkeep
from tracking.parquet.write import RecordWriter, encode_requests
from tracking.records import StageRecord

ROOT = Path(__file__).resolve().parents[1]
_CHUNKS = 64
_READS = 20

_OPEN = """
import json, sys, time
began = time.perf_counter()
import tracking
run = tracking.open_run(sys.argv[1])
imported = time.perf_counter()
lines = run.listing()
listed = time.perf_counter()
print(json.dumps({
    "trials": len(lines),
    "open_s": round(imported - began, 3),
    "list_s": round(listed - imported, 3),
    "open_and_list_s": round(listed - began, 3),
}))
"""


def write(layout: RunLayout, trials: int, requests: int, real: list[int]) -> None:
    """The record of so many finished trials of one stage each."""
    layout.create()
    layout.experiment.write_text("name: benchmark\n", encoding="utf-8")
    writer = RecordWriter(layout, {"tp": "int", "max-num-seqs": "int"}, ["goodput_per_gpu"])
    made = records(requests, _CHUNKS)
    known = set(real)
    with Upkeep(layout) as upkeep:
        for number in range(trials):
            record = trial_record(number, params={"tp": 2, "max-num-seqs": 64})
            writer.trial(replace(record, run=layout.run))
            writer.stage(
                StageRecord(layout.run, number, 0, 0, "poisson", 8.0, 0.0, 1.0, measurement())
            )
            if number in known:
                payload = encode_requests(
                    run=layout.run, number=number, attempt=0, stage=0, records=made
                )
                writer.requests(number, 0, 0, payload)
                gather_stages(layout, "requests", number, 0)
            upkeep.ended(number, 0)


def figures(layout: RunLayout, real: list[int]) -> dict[str, Json]:
    """Opened by a fresh process, then the requests of trials, one after the other."""
    from tracking.open import open_run

    opened = [
        json.loads(
            subprocess.run(
                [sys.executable, "-c", _OPEN, str(layout.root)],
                cwd=ROOT,
                check=True,
                capture_output=True,
            ).stdout
        )
        for _ in range(5)
    ]
    run = open_run(layout.root)
    whole_ms, columns_ms = [], []
    for number in (real * _READS)[:_READS]:
        began = time.perf_counter()
        rows = len(run.requests(number))
        whole_ms.append((time.perf_counter() - began) * 1e3)
        began = time.perf_counter()
        run.requests(number, ["ttft_ms", "e2e_ms"])
        columns_ms.append((time.perf_counter() - began) * 1e3)
    return {
        "opened": min(opened, key=lambda item: item["open_and_list_s"]),
        "opened_median_s": statistics.median(item["open_and_list_s"] for item in opened),
        "rows_of_a_trial": rows,
        "requests_of_a_trial_ms": _summary(whole_ms),
        "two_columns_of_them_ms": _summary(columns_ms),
    }


def _summary(values_ms: list[float]) -> Json:
    return {
        "min": round(min(values_ms), 1),
        "median": round(statistics.median(values_ms), 1),
        "max": round(max(values_ms), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--requests", type=int, default=5_000, help="of one trial")
    parser.add_argument("--real", type=int, default=400, help="trials whose requests are written")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    real = list(range(0, options.trials, max(1, options.trials // options.real)))
    with tempfile.TemporaryDirectory() as folder:
        layout = RunLayout(Path(folder) / "benchmark-20260101T000000Z-0000")
        began = time.perf_counter()
        write(layout, options.trials, options.requests, real)
        wrote_s = time.perf_counter() - began
        files: dict[str, Json] = {table: len(layout.files(table)) for table in TABLES}
        sizes = sum(file.path.stat().st_size for file in layout.files("requests"))
        document = {
            "trials": options.trials,
            "requests_of_a_trial": options.requests,
            "chunks_of_a_request": _CHUNKS,
            "request_rows_written": len(real) * options.requests,
            "request_rows_of_the_run": options.trials * options.requests,
            "request_bytes_of_the_run": round(sizes / len(real) * options.trials),
            "files": files,
            "wrote_s": round(wrote_s, 1),
            **figures(layout, real),
            "cpus": os.cpu_count(),
        }
    text = json.dumps(document, indent=1)
    print(text)
    if options.out is not None:
        options.out.write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
