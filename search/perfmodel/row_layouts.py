"""How the deployment of a table's row lies over GPUs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from runtimes.model import ModelFacts
from runtimes.parallel import ParallelLayout
from search.perfmodel.spread import Spread, spread_of

_EXPERTS = re.compile(r"moe_tp=(\d+) moe_ep=(\d+)")
_BATCH = re.compile(r"batch_size\(per dp rank\)=(\d+)")
_IN_ID = re.compile(r"_tp(\d+)(?:_0)?_ep(\d+)")
_HYBRID = re.compile(r"tp ?= ?(\d+) and ep ?= ?(\d+)", re.IGNORECASE)
_LONE_SWEEP = "_cfg"
"""In the ids of rows whose degrees stand in no other place."""
_MOST = 10_000_000
"""Tokens, requests or GPUs beyond which a cell is a mistake."""
_WIDEST = 16
"""Tensor ranks of one engine beyond which a row rather adds up several."""


class UnreadableLayoutError(ValueError):
    """The columns say nothing that an engine can run; the message says why, as issue text."""


@dataclass(frozen=True, slots=True)
class RowDegrees:
    """Degrees as a row has them, before they are made a spread.

    Attributes:
        tp, pp: as in `runtimes.parallel`.
        groups: attention groups that share one set of experts.
        ep: ranks with different experts.
        replicas: copies that share nothing.
    """

    tp: int
    pp: int = 1
    groups: int = 1
    ep: int = 1
    replicas: int = 1


def number(row: Mapping[str, str], column: str) -> int | None:
    """A whole number of a column; None where it is empty.

    Raises:
        UnreadableLayoutError: something else stands there.
    """
    text = (row.get(column) or "").strip()
    if not text:
        return None
    try:
        value = float(text) if text.isascii() and "_" not in text else -1.0
    except ValueError:
        value = -1.0
    if not (0 <= value <= _MOST and value.is_integer()):
        raise UnreadableLayoutError(f"{column} is {text!r}, not a whole number up to {_MOST}")
    return int(value) or None


def spread_of_degrees(engine: str, degrees: RowDegrees, model: ModelFacts) -> Spread:
    """The spread of `degrees` in the engine called `engine`.

    Raises:
        UnreadableLayoutError: the model cannot be cut like this.
    """
    if model.heads % degrees.tp:
        raise UnreadableLayoutError(
            f"{model.heads} attention heads cannot be split over tp={degrees.tp}; "
            "the row may add up the GPUs of several engines"
        )
    ranks = degrees.tp * degrees.groups
    if model.is_moe and ranks % degrees.ep:
        raise UnreadableLayoutError(f"ep={degrees.ep} does not divide {ranks} GPUs")
    if engine == "vllm" or not model.is_moe:
        layout = ParallelLayout(tp=degrees.tp, pp=degrees.pp, dp=degrees.groups, ep=degrees.ep)
    else:
        layout = ParallelLayout(tp=ranks, pp=degrees.pp, ep=degrees.ep, attention_dp=degrees.groups)
    spread = spread_of(engine, layout, model)
    return replace(spread, replicas=spread.replicas * degrees.replicas)


def silicon_degrees(row: Mapping[str, str]) -> RowDegrees:
    """Degrees of a row of aiconfigurator's collection of measurements.

    Its two imports of one InferenceX run write the expert degree differently: where ranks share
    experts among themselves (`tp8 ep8` on 8 GPUs), one multiplies the two and states 64 GPUs.
    Both state the same latencies; memory and nodes of 8 GPUs allow the 8 only.
    """
    note = row.get("note") or ""
    tp, dp = number(row, "tp") or 1, number(row, "dp") or 1
    experts = _EXPERTS.search(note)
    ep = max(1, int(experts[2])) if experts else number(row, "ep") or 1
    pp = number(row, "pp") or 1
    named = _IN_ID.search(note)
    gpus = int(named[1]) if named else tp * dp
    if named and int(named[2]) > 1 and tp * dp == gpus * int(named[2]):
        return _undo(tp, dp, RowDegrees(tp=gpus, ep=int(named[2]), pp=pp))
    if _LONE_SWEEP in note and ep > 1:
        given = dp if tp > 1 and dp > 1 else ep
        return _undo(tp, dp, RowDegrees(tp=tp * dp // given, ep=given, pp=pp))
    if tp > _WIDEST and ep == 1:
        raise UnreadableLayoutError(
            f"tp={tp} with whole experts on every rank is no layout of one engine; "
            "the row adds up the GPUs of prefill and decode, and does not say how they are shared"
        )
    return _of_batch(row, RowDegrees(tp=tp, groups=dp, ep=ep, pp=pp))


def _undo(tp: int, dp: int, degrees: RowDegrees) -> RowDegrees:
    """The true degrees, as attention groups where the multiplied ones are groups alone."""
    return replace(degrees, tp=1, groups=degrees.tp) if tp == 1 and dp > 1 else degrees


def _of_batch(row: Mapping[str, str], degrees: RowDegrees) -> RowDegrees:
    """Groups or replicas that only the batch per group tells of.

    Sequences of all groups over those of one are the groups: attention data parallel where there
    are experts over as many ranks, else copies of which the row counts the GPUs of one.
    """
    batch = _BATCH.search(row.get("note") or "")
    concurrency = number(row, "concurrency_or_max")
    if not batch or not concurrency or degrees.groups > 1:
        return degrees
    times, rest = divmod(concurrency, int(batch[1]))
    if rest or times <= 1:
        return degrees
    if degrees.ep > 1 and times == degrees.tp:
        return replace(degrees, tp=1, groups=times)
    return replace(degrees, replicas=times)


def plain_degrees(row: Mapping[str, str], *, attention_groups: bool) -> RowDegrees:
    """Degrees of a row whose columns mean what they say; spare GPUs are replicas.

    Args:
        row: its columns.
        attention_groups: True where the tensor ranks attend to sequences of their own and share
            the experts out among themselves.
    """
    note = row.get("note") or ""
    gpus = number(row, "num_gpus")
    pp = number(row, "pp") or 1
    tp, dp, ep = number(row, "tp"), number(row, "dp") or 1, number(row, "ep") or 1
    hybrid = _HYBRID.search(note)
    if hybrid:
        tp, ep = int(hybrid[1]) * int(hybrid[2]), int(hybrid[2])
    elif "pipeline" in note.lower() and gpus and not tp:
        tp, pp = 1, gpus
    if tp is None:
        tp = max(1, (gpus or 1) // (dp * pp)) if dp == 1 else 1
    if attention_groups and tp > 1 and dp == 1:
        tp, dp, ep = 1, tp, max(ep, tp)
    used = tp * pp * dp
    if gpus is not None and gpus % used:
        raise UnreadableLayoutError(f"{gpus} GPUs are no multiple of tp·pp·dp = {used}")
    return RowDegrees(tp=tp, pp=pp, groups=dp, ep=ep, replicas=(gpus or used) // used)
