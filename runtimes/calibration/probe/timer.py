"""How long a kernel takes."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable

from .device import Device

_REPEATS = 5
_MOST_CALLS = 200


class Timer:
    """Median times of repeated calls; on a GPU by its own clock, from a captured graph.

    Graphs leave out what Python takes to launch a kernel, as engines' graphs do.

    Args:
        budget_s: about how long one figure may take.
        agree: makes the number of calls the same for all ranks of a group.
    """

    def __init__(self, device: Device, budget_s: float, agree: Callable[[int], int] = int) -> None:
        self._device = device
        self._budget_s = budget_s
        self._agree = agree

    def agreeing(self, agree: Callable[[int], int]) -> Timer:
        """The same, for one rank of a group."""
        return Timer(self._device, self._budget_s, agree)

    def seconds(self, call: Callable[[int], object], turns: int = 1) -> float:
        """Seconds of one `call(i)`, which launches the kernel; `i` goes round below `turns`."""
        call(0)  # loads libraries, chooses kernels
        numbers = itertools.cycle(range(turns))

        def launch(count: int) -> None:
            for turn in itertools.islice(numbers, count):
                call(turn)

        elapsed_s = _cuda_s if self._device.on_gpu else _wall_s
        once_s = elapsed_s(lambda: launch(3)) / 3
        fitting = int(self._budget_s / _REPEATS / max(once_s, 1e-9))
        count = self._agree(max(1, min(fitting, _MOST_CALLS)))
        run = _captured(launch, count) if self._device.on_gpu else lambda: launch(count)
        return statistics.median(elapsed_s(run) for _ in range(_REPEATS)) / count


def _captured(launch: Callable[[int], None], count: int) -> Callable[[], object]:
    """So many calls as one graph, which has run once; one by one where they cannot be captured."""
    import torch

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # what a capture would make at the first call is made before
        launch(3)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            launch(count)
    except RuntimeError:
        torch.cuda.synchronize()
        return lambda: launch(count)
    graph.replay()
    return lambda: graph.replay()


def _cuda_s(run: Callable[[], object]) -> float:
    import torch

    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    run()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3


def _wall_s(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
