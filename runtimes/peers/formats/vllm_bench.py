"""`vllm bench serve --save-result`, with and without `--save-detailed` (read from vLLM 0.32).

Its TTFT, TPOT and pooled ITL are defined as ours are. In chats it takes the first chunk for the
first token even where it holds a role only; where the chunks of a request then outnumber its
tokens by that one, it is left out, elsewhere TTFT, TPOT and ITL of chats are not taken. Its E2E
latency ends with the last token, not with the stream.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import accumulate
from typing import ClassVar

from runtimes.measurement import Distribution, Measurement, RequestRecord
from runtimes.peers.fields import Fields
from runtimes.peers.figures import distribution_of, from_records, from_totals
from runtimes.peers.result import RESULT_FORMATS, PeerResult, ResultFormat

_LISTS = ("input_lens", "output_lens", "ttfts", "itls", "start_times")
"""What `--save-detailed` adds: one entry a request."""


@RESULT_FORMATS.register("vllm-bench")
class VllmBenchFormat(ResultFormat):
    name: ClassVar[str] = "vllm-bench"
    keys: ClassVar[frozenset[str]] = frozenset(
        {"backend", "model_id", "num_prompts", "request_rate", "total_output_tokens"}
    )

    def read(self, document: Fields) -> list[PeerResult]:
        # The date is the machine's local time at the end of the run.
        try:
            ended = datetime.strptime(document.text("date"), "%Y%m%d-%H%M%S").timestamp()
        except ValueError:
            raise document.wrong("date", "a date as 20260131-123456") from None
        chat = "chat" in document.text("backend")
        detailed = all(key in document.values for key in _LISTS)
        records = tuple(_records(document, chat=chat)) if detailed else ()
        load, value = _load(document)
        return [
            PeerResult(
                tool=self.name,
                model=document.text("model_id"),
                load=load,
                load_value=value,
                started_unix_s=ended - document.number("duration"),
                ended_unix_s=ended,
                measurement=from_records(records) if records else _totals(document, chat=chat),
                records=records,
                facts={"vllm_bench_backend": document.text("backend")},
            )
        ]


def _load(document: Fields) -> tuple[str, float]:
    """Kind and value. `request_rate` is the text `inf` for a closed loop or everything at once."""
    if document.find_text("ramp_up_strategy") is not None:
        rates = (document.number("ramp_up_start_rps"), document.number("ramp_up_end_rps"))
        return "ramp", max(rates)
    if document.values["request_rate"] == "inf":
        held = document.find_number("max_concurrency")
        return "concurrency", document.number("num_prompts") if held is None else held
    rate = document.number("request_rate")
    return ("poisson" if document.find_number("burstiness") in (None, 1.0) else "gamma"), rate


def _totals(document: Fields, *, chat: bool) -> Measurement:
    completed, failed = document.count("completed"), document.find_count("failed") or 0
    latencies = {
        "ttft_ms": _summary(document, "ttft", completed),
        "tpot_ms": _summary(document, "tpot"),
        "itl_ms": _summary(document, "itl"),
    }
    if chat:
        latencies = {}
    # A failed request has an entry as well, which nothing tells from the others.
    if "latencies" in document.values and not failed:
        latencies["e2e_ms"] = distribution_of(1e3 * s for s in document.numbers("latencies"))
    else:
        latencies["e2e_ms"] = _summary(document, "e2el", completed)
    return from_totals(
        completed=completed,
        failed=failed,
        duration_s=document.number("duration"),
        input_tokens=document.count("total_input_tokens"),
        output_tokens=document.count("total_output_tokens"),
        latencies=latencies,
    )


def _summary(document: Fields, name: str, count: int | None = None) -> Distribution | None:
    """What the file has of a latency; None where it lacks the mean, the median or the p99."""

    def find(statistic: str) -> float | None:
        return document.find_number(f"{statistic}_{name}_ms")

    mean, median, p99 = find("mean"), find("median"), find("p99")
    if mean is None or median is None or p99 is None or not document.count("completed"):
        return None
    return Distribution(
        count=count, mean=mean, p50=median, p90=find("p90"), p95=find("p95"), p99=p99, max=None,
        p1=find("p1"), p5=find("p5"), p10=find("p10"), p25=find("p25"), p75=find("p75"),
        p99_9=find("p99.9"),
    )  # fmt: skip


def _records(document: Fields, *, chat: bool) -> Iterator[RequestRecord]:
    starts, ttfts = document.numbers("start_times"), document.numbers("ttfts")
    gaps, inputs, outputs = (
        document.number_lists("itls"),
        document.numbers("input_lens"),
        document.numbers("output_lens"),
    )
    errors = document.items("errors") if "errors" in document.values else [""] * len(starts)
    waits = [0.0] * len(starts)
    if document.values["request_rate"] != "inf" and "queue_times" in document.values:
        waits = document.numbers("queue_times")
    latencies = [ttft + sum(between) for ttft, between in zip(ttfts, gaps, strict=False)]
    if "latencies" in document.values:
        latencies = document.numbers("latencies")
    columns = (starts, ttfts, gaps, inputs, outputs, errors, waits, latencies)
    if len({len(column) for column in columns}) != 1:
        raise document.wrong("start_times", f"a list as long as its other lists, {len(ttfts)}")
    begun = min((start for start in starts if start > 0), default=0.0)
    for index, start_s in enumerate(starts):
        sent_s = max(start_s, begun)
        output = int(outputs[index])
        arrivals_s = list(accumulate(gaps[index], initial=sent_s + ttfts[index]))
        if chat:
            arrivals_s = arrivals_s[1:] if len(arrivals_s) == output + 1 else []
        failed = bool(errors[index]) or not output
        yield RequestRecord(
            index=index,
            scheduled_ns=_ns(sent_s - waits[index]),
            sent_ns=_ns(sent_s),
            chunk_ns=() if failed and not output else tuple(map(_ns, arrivals_s)),
            end_ns=_ns(sent_s + latencies[index]),
            prompt_tokens=int(inputs[index]),
            output_tokens=output,
            requested_output_tokens=output,
            error=_reason(errors[index]) if failed else None,
        )


def _reason(error: object) -> str:
    """The last line of what may be a traceback."""
    lines = str(error or "").strip().splitlines()
    return lines[-1][:200] if lines else "failed"


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
