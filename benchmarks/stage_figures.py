"""CPU time and memory to judge and to store one large stage of load.

    python -m benchmarks.stage_figures [--requests 50000] [--chunks 200]

Makes up the records of an open loop, then prints as JSON what `summarise` and `encode_requests`
take of them.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from array import array

import numpy as np

from runtimes.load.result import LoadResult
from runtimes.measurement import RequestRecord
from runtimes.slo import Slo, SloLimit
from runtimes.statistics import summarise
from tracking.parquet.write import encode_requests


def records(requests: int, chunks: int) -> tuple[RequestRecord, ...]:
    """Fifty arrivals a second, chunks 10 ms apart on average."""
    random = np.random.default_rng(1)
    found = []
    for index, sent_ns in enumerate(np.cumsum(random.exponential(2e7, requests)).astype(int)):
        gaps_ns = random.exponential(1e7, chunks).astype(np.int64)
        chunk_ns = array("q", (sent_ns + np.cumsum(gaps_ns)).tobytes())
        at_ns = int(sent_ns)
        found.append(
            RequestRecord(index, at_ns, at_ns, chunk_ns, chunk_ns[-1], 100, chunks, chunks)
        )
    return tuple(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=50_000)
    parser.add_argument("--chunks", type=int, default=200, help="of one request")
    options = parser.parse_args()
    made = records(options.requests, options.chunks)
    slo = Slo((SloLimit("ttft_ms", "p99", 20.0), SloLimit("itl_ms", "p99", 50.0)))
    began = time.process_time()
    summarise(LoadResult(made, 0, made[-1].end_ns, 0.0), slo)
    judged = time.process_time()
    size = len(encode_requests(run="r", number=0, attempt=0, stage=0, records=made))
    figures = {
        "requests": options.requests,
        "chunks": options.requests * options.chunks,
        "summarise_cpu_s": round(judged - began, 2),
        "encode_requests_cpu_s": round(time.process_time() - judged, 2),
        "file_mb": round(size / 1e6, 1),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
