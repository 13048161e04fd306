"""Rows of deployments that compute prompts on some engines and decode on others."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from search.perfmodel.row_layouts import RowDegrees, UnreadableLayoutError

_SILICON = re.compile(r"(prefill|decode) (\d+|\?)x\(tp(\d+),pp(\d+),dp(\d+),moe_tp(\d+),ep(\d+)\)")
_SWEEP = re.compile(r"(prefill|decode) (\d+|\?)x tp(\d+) ep(\d+) \((\d+) gpus\)")


@dataclass(frozen=True, slots=True)
class Roles:
    """Degrees of both roles; replicas are the engines of a role."""

    prefill: RowDegrees
    decode: RowDegrees


def roles_of(row: Mapping[str, str]) -> Roles:
    """What the row's note says of its roles.

    Raises:
        UnreadableLayoutError: it says nothing of one of them, or not how many engines it has.
    """
    note = row.get("note") or ""
    found: dict[str, RowDegrees] = {}
    for role, count, *degrees in _SILICON.findall(note):
        tp, pp, dp, _, ep = map(int, degrees)
        found[role] = RowDegrees(tp=tp, pp=pp, groups=dp, ep=ep, replicas=_engines(role, count))
    grouped = "dp_attention=true" in note
    for role, count, *degrees in _SWEEP.findall(note):
        found[role] = _sweep_role(role, count, *map(int, degrees), grouped=grouped)
    if len(found) < 2:
        raise UnreadableLayoutError("the note does not say how prefill and decode are laid out")
    return Roles(found["prefill"], found["decode"])


def _sweep_role(role: str, count: str, tp: int, ep: int, gpus: int, *, grouped: bool) -> RowDegrees:
    """One role of an InferenceX row.

    Some state `tp1 ep1` for engines of several GPUs: wide expert parallelism, where every rank
    attends to sequences of its own.
    """
    engines = _engines(role, count)
    each, rest = divmod(gpus, engines)
    if rest or each % tp:
        raise UnreadableLayoutError(f"{gpus} GPUs of {role} are not {engines} engines of tp={tp}")
    if each > tp or (grouped and ep > 1):
        return RowDegrees(tp=1, groups=each, ep=each, replicas=engines)
    return RowDegrees(tp=tp, ep=ep, replicas=engines)


def _engines(role: str, count: str) -> int:
    if count == "?":
        raise UnreadableLayoutError(f"the row does not say how many engines do {role}")
    return max(1, int(count))
