"""What a starting engine is doing, from the log it writes.

The lines are those of vLLM 0.32 and 0.33, SGLang 0.5 and TensorRT-LLM 1.x, and the progress bars
that all of them draw with tqdm.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

_MAX_READ_BYTES = 1 << 20
"""A log that grew by more since the last look is read from its end: only the latest step counts."""
_MAX_LINE = 1000


class Step(Enum):
    """A part of a start, in the order engines go through them; the value is what users read."""

    LAUNCHING = "launching"
    LOADING = "loading weights"
    SIZING = "sizing the KV cache"
    COMPILING = "compiling"
    CAPTURING = "capturing graphs"
    WARMING = "warming up"
    LISTENING = "listening, not yet healthy"

    @property
    def order(self) -> int:
        """Position among the steps, from 0."""
        return list(Step).index(self)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a start has come.

    Attributes:
        done, total: how much of `step`, where the log counts it (shards, graphs); else None.
    """

    step: Step = Step.LAUNCHING
    done: int | None = None
    total: int | None = None

    def __str__(self) -> str:
        if self.done is None or not self.total:
            return self.step.value
        return f"{self.step.value}, {self.done} of {self.total} ({self.done / self.total:.0%})"


_LINES: tuple[tuple[Step, re.Pattern[str]], ...] = tuple(
    (step, re.compile(pattern))
    for step, pattern in (
        # vLLM, the server: it listens before the first request comes back.
        (Step.LISTENING, r"Starting vLLM (?:API )?server|Application startup complete"),
        (Step.LISTENING, r"fired up and ready to roll|Uvicorn running on"),
        # TensorRT-LLM names its graphs "warmup", so captures are told before warm-ups.
        (Step.WARMING, r"Graph capturing finished|Capture .*graph.* end\b"),
        (
            Step.CAPTURING,
            r"Capturing (?:\S+ ){0,3}CUDA graphs|Capturing batches|Capturing num tokens",
        ),
        (Step.CAPTURING, r"Capture .*graph.* begin\b|Creating CUDA graph instances"),
        (Step.CAPTURING, r"Run generation[- ]only CUDA graph warmup"),
        (Step.SIZING, r"torch\.compile (?:and [^:]* )?took|Memory pool end"),
        (
            Step.COMPILING,
            r"Starting torch\.compile|for vLLM's torch\.compile|Dynamo bytecode transform",
        ),
        (Step.COMPILING, r"Compiling (?:a graph|num tokens|CuTeDSL)|DeepGEMM (?:JIT|warmup)"),
        (Step.WARMING, r"Warming up|Running autotuner warmup|Autotuning process starts"),
        (Step.SIZING, r"Model loading took|Loading weights took|Load weight end"),
        (Step.SIZING, r"init engine \(profile, create kv cache"),
        (Step.LOADING, r"Starting to load model|Load weight begin|Loading weights"),
        (Step.LOADING, r"Loading \w+ (?:checkpoint|weights|using)|Multi-thread loading"),
        (Step.LOADING, r"Rank \d+ prefetching "),
    )
)
_COUNT = re.compile(r"\D(\d+)/(\d+)(?=\s)")
"""`2/8 [00:02<00:07` of a progress bar; the blank says that the number is whole."""


def progress_of(line: str) -> Progress | None:
    """What one line of a log, or one state of a progress bar, tells; None for most."""
    for step, pattern in _LINES:
        if pattern.search(line):
            count = _COUNT.search(line) if "%" in line else None
            if count is None:
                return Progress(step)
            return Progress(step, int(count[1]), int(count[2]))
    return None


class LogProgress:
    """Follows one growing log; each byte is read once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0
        self._rest = ""
        self.latest = Progress()

    def read(self) -> Progress:
        """How far the start has come now. An absent log says nothing."""
        for line in self._new_lines():
            self.latest = progress_of(line) or self.latest
        return self.latest

    def _new_lines(self) -> list[str]:
        """Lines and states of bars since the last call; of one that goes on, what there is."""
        try:
            with self._path.open("rb") as log:
                size = log.seek(0, 2)
                if size - self._position > _MAX_READ_BYTES:
                    self._position, self._rest = size - _MAX_READ_BYTES, ""
                log.seek(self._position)
                data = log.read(size - self._position)
        except FileNotFoundError:
            return []
        self._position += len(data)
        # A bar ends its states by carriage returns and the last of them by nothing at all.
        lines = re.split(r"[\r\n]", self._rest + data.decode(errors="replace"))
        self._rest = lines[-1][-_MAX_LINE:]
        return [line[:_MAX_LINE] for line in lines if line]
