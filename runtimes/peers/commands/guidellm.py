"""GuideLLM, by the command line of 0.8."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from runtimes.peers.command import PEERS, Peer, PeerTask, figures_in

_RESULT = "benchmarks.json"


@PEERS.register("guidellm")
class GuideLlm(Peer):
    name: ClassVar[str] = "guidellm"
    program: ClassVar[str] = "guidellm"
    api_key_env: ClassVar[str] = "GUIDELLM__SPEC__BACKEND__API_KEY"

    def arguments(self, task: PeerTask) -> list[str] | None:
        if task.concurrency is not None:
            profile = _pairs(kind="concurrent", streams=task.concurrency)
        elif task.cv in (0.0, 1.0):
            profile = _pairs(kind="poisson" if task.cv else "constant", rate=task.rate)
        else:
            return None
        lengths = {"prompt_tokens": task.input_tokens, "output_tokens": task.output_tokens}
        backend = {"target": task.url, "model": task.model, "request_format": task.api.path}
        return [
            "run",
            *("--backend", _pairs(kind="openai_http", **backend)),
            *("--profile", profile),
            *("--constraint", _pairs(kind="max_requests", count=task.requests)),
            *("--data", _pairs(kind="synthetic_text", **lengths)),
            *("--seed", _pairs(kind="static", value=task.seed)),
            *("--output", _pairs(kind="json", path=task.folder / _RESULT)),
            "--disable-console",
        ]

    def figures(self, folder: Path) -> Mapping[str, float]:
        return figures_in(folder / _RESULT)


def _pairs(**values: object) -> str:
    return ",".join(f"{name}={value}" for name, value in values.items())
