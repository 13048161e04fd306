"""The trials that nobody searches for: an engine's defaults, and one reference for every node."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from orchestrator.placement import Bundle
from orchestrator.planning import baselines, reference
from orchestrator.wiring import Study
from tracking.events import Proposed
from tracking.journal import Journal


def first_proposals(
    study: Study, known: Sequence[Proposed], bundles: Iterable[Bundle], journal: Journal
) -> tuple[Proposed, ...]:
    """`known`, and the first trials that are not among them yet; those are journalled.

    They come before the search: what that gains is gained over the defaults, and nodes that are
    slower than others should be known before anything else is measured on them. A run that has
    begun to search gets references for nodes that are new to it, and nothing else.
    """
    proposed = list(known)
    if not _searched(known):
        seen = {proposal.config_id for proposal in known}
        for params in baselines(study):
            config_id = study.admission.config_id(params)
            if config_id not in seen:
                proposed.append(
                    Proposed(_next(proposed), params.engine, params.values, config_id, True)
                )
    proposed += _references(study, proposed, bundles)
    for proposal in proposed[len(known) :]:
        journal.append(proposal)
    return tuple(proposed)


def _references(
    study: Study, known: Sequence[Proposed], bundles: Iterable[Bundle]
) -> list[Proposed]:
    """One for each node that can hold the reference, where there are several to tell apart."""
    params = reference(study)
    if params is None:
        return []
    plan = study.admission.plan(params)
    room = [bundle for bundle in bundles if bundle.room.takes(plan.gpus, plan.environment.label)]
    nodes = sorted({bundle.node for bundle in room})
    done = {proposal.node for proposal in known if proposal.reference}
    if len(nodes) + len(done - set(nodes)) < 2:
        return []
    first = _next(known)
    return [
        Proposed(
            first + index,
            params.engine,
            params.values,
            plan.config_id,
            reference=True,
            node=node,
        )
        for index, node in enumerate(node for node in nodes if node not in done)
    ]


def _searched(known: Iterable[Proposed]) -> bool:
    return any(not (proposal.baseline or proposal.reference) for proposal in known)


def _next(known: Sequence[Proposed]) -> int:
    return max((proposal.number for proposal in known), default=-1) + 1
