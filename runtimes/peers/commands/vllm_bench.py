"""`vllm bench serve`, which comes with every vLLM."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from runtimes.load.job import Api
from runtimes.peers.command import PEERS, Peer, PeerTask, figures_in

_RESULT = "result.json"
_MODULE = """
from vllm.benchmarks.serve import add_cli_args, main
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = FlexibleArgumentParser()
add_cli_args(parser)
main(parser.parse_args())
"""
"""What `vllm bench serve` runs. The command itself cannot start in builds of vLLM that are
distributed under another name, since it asks for the version of `vllm`."""


@PEERS.register("vllm-bench")
class VllmBench(Peer):
    name: ClassVar[str] = "vllm-bench"
    program: ClassVar[str] = "vllm"
    api_key_env: ClassVar[str] = "OPENAI_API_KEY"

    def command(self, programs: Path | None) -> list[str] | None:
        found = super().command(programs)
        if found is None:
            return None
        python = Path(found[0]).parent / "python"
        return [str(python), "-c", _MODULE] if python.exists() else [*found, "bench", "serve"]

    def arguments(self, task: PeerTask) -> list[str] | None:
        options: dict[str, object] = {
            "backend": "openai-chat" if task.api is Api.CHAT else "openai",
            "base-url": task.url,
            "endpoint": task.api.path,
            "model": task.model,
            "dataset-name": "random",
            "random-input-len": task.input_tokens,
            "random-output-len": task.output_tokens,
            "num-prompts": task.requests,
            "seed": task.seed,
            "temperature": 0,
            "ready-check-timeout-sec": 0,
            "result-dir": task.folder,
            "result-filename": _RESULT,
        }
        if task.concurrency is not None:
            options["max-concurrency"] = task.concurrency
        else:
            # Its burstiness is the shape of a gamma distribution, whose limit is constant gaps.
            options["request-rate"] = task.rate
            options["burstiness"] = task.cv**-2 if task.cv else "inf"
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        flags = ["--ignore-eos", "--disable-tqdm", "--save-result", "--save-detailed"]
        return [*words, *flags]

    def figures(self, folder: Path) -> Mapping[str, float]:
        return figures_in(folder / _RESULT)
