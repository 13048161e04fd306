"""Which parts there are, and one after the other."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Sequence
from functools import partial

from .device import Device, describe
from .kernels import all_reduce, copy, decode_attention, gemm, gemm_fp8, prefill_attention
from .part import Part, attempt, measure_in_ranks
from .said import say
from .timer import Timer

BUDGET_S = 0.1
"""About how long one figure may take; `--quick` halves it."""

_MIB = 1 << 20


def powers(low: int, high: int, step: int) -> list[int]:
    """`low`, `low · step`, … up to `high`."""
    return [low * step**n for n in range(int(math.log(high / low, step) + 1e-9) + 1)]


def parts(device: Device, ranks: Sequence[int] | None, *, quick: bool) -> list[Part]:
    """What is measured of `device`, at sizes that a few minutes are enough for."""
    if device.on_gpu:
        copied = min(1024 * _MIB, device.memory_bytes // 8)
        prompt, cache, tensor = (512, 16384), (4 * _MIB, 1024 * _MIB), (_MIB // 64, 256 * _MIB)
    else:
        copied = (128 if quick else 256) * _MIB
        prompt = (128, 512 if quick else 2048)
        cache, tensor = (_MIB // 16, (16 if quick else 64) * _MIB), (_MIB // 64, 16 * _MIB)
    if ranks is None:
        ranks = powers(2, device.devices, 2) if device.on_gpu else [2]
    tokens = powers(1, 8192, 4 if quick else 2)
    found = [
        Part("copy", [copied], copy),
        Part("gemm bf16", tokens, gemm),
        Part("gemm fp8", tokens, gemm_fp8),
        Part("prefill attention", powers(*prompt, 2), prefill_attention),
        Part("decode attention", powers(*cache, 4), decode_attention),
    ]
    sizes = powers(*tensor, 4)
    return found + [Part(f"all-reduce {n}", sizes, all_reduce, n) for n in ranks if n > 1]


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="Measure one node's kernels with torch.")
    parser.add_argument("--ranks", help="groups of ranks for all-reduce, as 2,4; may be empty")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args(argv)
    try:
        import torch  # noqa: F401  # once, for all the processes that are forked below
    except (ImportError, OSError) as error:
        say({"no_torch": str(error)})
        return 1
    reader, writer = os.pipe()

    def tell() -> None:
        os.write(writer, json.dumps(describe()._asdict()).encode())

    attempt(Part("device", [], copy), tell)
    os.close(writer)
    told = os.read(reader, 1 << 16)
    if not told:
        return 1
    device = Device(**json.loads(told))
    say({"device": device._asdict()})
    ranks = arguments.ranks
    wanted = None if ranks is None else [int(count) for count in ranks.split(",") if count]
    timer = Timer(device, BUDGET_S / 2 if arguments.quick else BUDGET_S)
    for part in parts(device, wanted, quick=arguments.quick):
        say({"part": part.name, "points": len(part.sizes)})
        measure = part.measure if part.ranks == 1 else partial(measure_in_ranks, part)
        attempt(part, partial(measure, device, timer))
    say({"end": True})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
