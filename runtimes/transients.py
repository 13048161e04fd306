"""Which part of a stage is measured: its beginning and its end are no steady load.

**The tail.** After the last arrival the load only falls: in an open loop nothing comes any more, in
a closed one nothing replaces what ends. The window ends there, unless fewer than `MIN_REQUESTS` or
less than half of the stage's requests had ended by then: such a stage is mostly tail (a burst), and
the whole of it counts.

**The head.** The series are the mean number of requests in flight and the output tokens per second,
in bins of `MIN_BIN_S` to `MAX_BIN_S`. MSER-5 (White 1997, "An effective truncation heuristic for
bias reduction in simulation output") takes the means of five bins each and drops so many of the
first that the standard error of the mean of the rest is smallest, the first half at most. The later
of the two cuts counts. A stage of fewer than `MIN_BATCHES` such means is too short to judge, and
nothing is cut at its head.

**Steady.** A series whose best cut is the limit itself, or that behind the cut still drifts by more
than `MAX_DRIFT` of its mean, significantly so, never became stationary. Then nothing is cut at the
head and the window says that it is not steady. It says so as well of a stage that is too short to
have become so: whose window is not as long as `MIN_STAYS` of its mean requests, from
`MIN_REQUESTS` requests on.
"""

from __future__ import annotations

import numpy as np

from runtimes.measurement import Window
from runtimes.request_columns import Floats, Ints, RequestColumns

MIN_REQUESTS = 20
"""A window holds at least so many ends of requests, or nothing is cut."""
MIN_STAYS = 3.0
MIN_BIN_S = 0.1
MAX_BIN_S = 1.0
BATCH = 5
"""Bins of one mean of MSER-5."""
MIN_BATCHES = 20
_BINS = 200
"""Bins of a stage between the two bounds of their width."""
MAX_DRIFT = 0.1
_DRIFT_GROUPS = 10
_DRIFT_T = 3.355
"""Student's t of 8 degrees of freedom at 1 %, two-sided."""


def measured_window(columns: RequestColumns, last_arrival_ns: int) -> tuple[Window, int, int]:
    """The window of a stage that has requests, as this module's docstring says.

    Args:
        columns: every request of the stage.
        last_arrival_ns: when the load sent for the last time of its own accord.

    Returns:
        The window, whose seconds count from the first schedule, and its two ends on the records'
        clock, both inclusive: not beyond the last end, since an interrupted stage may have sent
        requests that it has no record of. `requests` counts the completed ones that were scheduled
        within it.
    """
    start_ns, end_ns = int(columns.scheduled_ns.min()), int(columns.end_ns.max())
    first_ns, last_arrival_ns = start_ns, min(last_arrival_ns, end_ns)
    words = []
    if _ended(columns, start_ns, last_arrival_ns) >= max(MIN_REQUESTS, len(columns.end_ns) / 2):
        end_ns = last_arrival_ns
        words.append("tail")
    cut_ns, steady = _head(columns, start_ns, end_ns)
    if cut_ns > start_ns and _ended(columns, cut_ns, end_ns) >= MIN_REQUESTS:
        start_ns = cut_ns
        words.insert(0, "mser")
    scheduled = columns.scheduled_ns[columns.completed]
    window = Window(
        start_s=(start_ns - first_ns) / 1e9,
        end_s=(end_ns - first_ns) / 1e9,
        rule="+".join(words) or "whole",
        steady=steady and not _short(columns, start_ns, end_ns),
        requests=int(((scheduled >= start_ns) & (scheduled <= end_ns)).sum()),
    )
    return window, start_ns, end_ns


def mser5(values: Floats) -> int | None:
    """Bins of the transient at the beginning of `values`; None when the limit is the best cut."""
    batches = _batches(values)
    count = len(batches)
    limit = count // 2
    left = count - np.arange(limit + 1)
    sums = batches[::-1].cumsum()[::-1][: limit + 1]
    squares = (batches**2)[::-1].cumsum()[::-1][: limit + 1]
    # Of all cuts that are equally good, the earliest: argmin takes the first. Rounding errors
    # must not choose among cuts of a series that is constant from some point on.
    spread = np.maximum(squares - sums**2 / left, 1e-12 * squares)
    best = int(np.argmin(spread / left**2))
    return None if best == limit else best * BATCH


def drifts(values: Floats) -> bool:
    """Whether a straight line through the means of ten parts rises or falls materially.

    Over `MAX_DRIFT` of the mean from end to end, and significant at 1 %. Ten parts, because what
    is correlated over a short time is nearly independent between them.
    """
    length = len(values) // _DRIFT_GROUPS
    means = values[: length * _DRIFT_GROUPS].reshape(_DRIFT_GROUPS, length).mean(axis=1)
    at = np.arange(_DRIFT_GROUPS) - (_DRIFT_GROUPS - 1) / 2
    slope = (at @ means) / (at @ at)
    rest = means - means.mean() - slope * at
    error = np.sqrt((rest @ rest) / (_DRIFT_GROUPS - 2) / (at @ at))
    material = abs(slope) * _DRIFT_GROUPS > MAX_DRIFT * abs(means.mean())
    return bool(material and abs(slope) > _DRIFT_T * error)


def in_flight(sent_ns: Ints, end_ns: Ints, edges_ns: Floats) -> Floats:
    """Mean number of requests in flight between each edge and the next."""

    def passed_ns(instants: Ints) -> Floats:
        """Time since each instant, summed over those before each edge."""
        ordered = np.sort(instants - instants.min(initial=0)).astype(np.float64)
        sums = np.concatenate([[0.0], np.cumsum(ordered)])
        edges = edges_ns - instants.min(initial=0)
        before = np.searchsorted(ordered, edges, side="right")
        return np.asarray(before * edges - sums[before])

    waited_ns = passed_ns(sent_ns) - passed_ns(end_ns)
    return np.asarray(np.diff(waited_ns) / np.diff(edges_ns))


def _head(columns: RequestColumns, start_ns: int, end_ns: int) -> tuple[int, bool]:
    """Where the transient at the beginning ends, and whether the rest is stationary."""
    length_s = (end_ns - start_ns) / 1e9
    bins = int(length_s / min(MAX_BIN_S, max(MIN_BIN_S, length_s / _BINS)) + 1e-9)
    if bins < MIN_BATCHES * BATCH:
        return start_ns, True
    edges = np.linspace(0.0, end_ns - start_ns, bins + 1)
    at = columns.chunk_ns - start_ns
    within = (at >= 0) & (at <= end_ns - start_ns)
    bin_of = np.minimum(at[within] * bins // (end_ns - start_ns), bins - 1)
    weights = columns.chunk_output[within]
    tokens = np.bincount(bin_of, weights=weights, minlength=bins).astype(np.float64)
    held = in_flight(columns.sent_ns - start_ns, columns.end_ns - start_ns, edges)
    cuts = [mser5(held), mser5(tokens)]
    cut = max(0 if found is None else found for found in cuts)
    if None in cuts or drifts(held[cut:]) or drifts(tokens[cut:]):
        return start_ns, False
    return start_ns + int(edges[cut]), True


def _batches(values: Floats) -> Floats:
    whole = len(values) // BATCH * BATCH
    return np.asarray(values[:whole].reshape(-1, BATCH).mean(axis=1))


def _short(columns: RequestColumns, start_ns: int, end_ns: int) -> bool:
    """Whether requests stay so long that the window sees only the first of them."""
    if columns.completed.sum() < MIN_REQUESTS:
        return False
    stay_ns = (columns.end_ns - columns.sent_ns)[columns.completed].mean()
    return bool(end_ns - start_ns < MIN_STAYS * stay_ns)


def _ended(columns: RequestColumns, start_ns: int, end_ns: int) -> int:
    ended = columns.end_ns[columns.completed]
    return int(((ended >= start_ns) & (ended <= end_ns)).sum())
