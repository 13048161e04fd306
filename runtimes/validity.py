"""Whether a stage measured what it was meant to: prefix-cache state, dependence on content."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from runtimes.measurement import RequestRecord

MAX_HIT_RATE_GAP = 0.01
"""A hit rate that differs from the designed one by more is flagged `cache_contaminated`: one
point."""
CACHE_CONTAMINATED = "cache_contaminated"
CONTENT_SENSITIVE = "content_sensitive"
KEPT_TEXTS = 16
"""Texts of a stage that `repetition_score` is taken of."""
_GRAM = 4


def designed_hit_rate(
    records: Sequence[RequestRecord], block_tokens: int | None = None
) -> float | None:
    """Share of the prompt tokens sent that the workload means a prefix cache to hold.

    A cache holds whole blocks, and an engine always computes the last token of a prompt, since it
    samples from its logits: that is how much of each prompt's shared tokens can be found.

    Args:
        records: every request of a stage.
        block_tokens: tokens of one block of the engine's cache; None where it does not say.

    Returns:
        None where a prompt was sent as text, so that its tokens are not known.
    """
    block = block_tokens or 1
    shared = sent = 0
    for record in records:
        if record.sent_tokens is None:
            return None
        sent += record.sent_tokens
        shared += min(record.shared_tokens, max(0, record.sent_tokens - 1)) // block * block
    return shared / sent if sent else None


def highest_hit_rate(records: Sequence[RequestRecord]) -> float | None:
    """What `designed_hit_rate` is at most for chats, whose template only the server knows.

    The tokens that `usage` counts beyond the contents are the template's, which all chats share, so
    that these and the contents' shared tokens are all that can be found. How much of it can be is
    not known, and no lower bound follows.

    Args:
        records: as above.

    Returns:
        None where a completed request has no count of its contents, or none was counted.
    """
    most = prompt = 0
    for record in records:
        if record.error is not None or not record.prompt_tokens:
            continue
        if record.content_tokens is None:
            return None
        template = max(0, record.prompt_tokens - record.content_tokens)
        most += min(record.shared_tokens + template, record.prompt_tokens)
        prompt += record.prompt_tokens
    return most / prompt if prompt else None


def observed_hit_rate(
    before: Mapping[str, float], after: Mapping[str, float], records: Sequence[RequestRecord]
) -> float | None:
    """Share of the prompt tokens looked up in the prefix cache that were found there.

    By the engine's counters between `before` and `after`, else by the `usage` of the completed
    requests, which servers leave the count out of where it is 0; None where neither says. An
    engine whose cache is off counts no lookups.
    """
    queries = _grown(before, after, "prefix_cache_queries_total")
    if queries:
        # A counter that has not counted yet is absent from some engines' pages.
        return (_grown(before, after, "prefix_cache_hits_total") or 0.0) / queries
    completed = [record for record in records if record.error is None]
    cached = [one.cached_tokens for one in completed if one.cached_tokens is not None]
    prompt = sum(record.prompt_tokens or 0 for record in completed)
    return sum(cached) / prompt if prompt and cached else None


def is_contaminated(designed: float | None, observed: float | None, *, keeps: bool) -> bool:
    """Whether a stage's cache was not in the state that the workload designed.

    More hits than designed are prompts that were sent before; fewer are shared prefixes that were
    not there. Where the engine does not keep all that it is sent, fewer is how its configuration
    serves, which is what a trial is to find out; elsewhere the stage did not begin as declared.

    Args:
        designed: hit rate as the workload means it.
        observed: hit rate as the engine saw it; where either is None nothing can be said.
        keeps: whether the engine finds again whatever was sent (`PrefixCache.keeps`).
    """
    if designed is None or observed is None:
        return False
    if not keeps and observed <= designed:
        return False
    return abs(observed - designed) > MAX_HIT_RATE_GAP


def acceptance_length(before: Mapping[str, float], after: Mapping[str, float]) -> float | None:
    """Tokens that one verification of a draft yields: accepted draft tokens, and one more.

    None where the engine did not speculate in the stage, or does not count what it accepted.
    """
    drafts = _grown(before, after, "spec_decode_drafts_total")
    accepted = _grown(before, after, "spec_decode_accepted_tokens_total")
    return None if not drafts or accepted is None else accepted / drafts + 1.0


def speculated(before: Mapping[str, float], after: Mapping[str, float]) -> bool:
    """Whether the engine drafted tokens in the stage."""
    names = ("spec_decode_drafts_total", "spec_decode_draft_tokens_total")
    return any(_grown(before, after, name) for name in names)


def repetition_score(texts: Iterable[str]) -> float | None:
    """Share of four-word sequences that stood before in the same text, mean over the texts.

    The `seq-rep-4` of Welleck et al. 2020 (Neural Text Generation with Unlikelihood Training), of
    words between blanks: 0 where nothing repeats, near 1 for a loop. Drafts from the text itself
    are accepted the more, the nearer it is to 1. None where no text has four words.
    """
    scores = []
    for text in texts:
        words = text.split()
        grams = [tuple(words[at : at + _GRAM]) for at in range(len(words) - _GRAM + 1)]
        if grams:
            scores.append(1.0 - len(set(grams)) / len(grams))
    return sum(scores) / len(scores) if scores else None


def _grown(before: Mapping[str, float], after: Mapping[str, float], name: str) -> float | None:
    """How much a counter grew; None where it is absent."""
    return after[name] - before.get(name, 0.0) if name in after else None
