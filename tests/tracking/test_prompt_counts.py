"""Whether engines counted the same prompts alike."""

from __future__ import annotations

from dataclasses import replace

from tests.tracking.run_samples import measurement, trial_record
from tracking.prompt_counts import prompt_count_note
from tracking.records import TrialRecord


def counted(number: int, engine: str, excess: int | None) -> TrialRecord:
    """A trial whose engine counted so many prompt tokens more than were sent, per request."""
    plain = measurement()
    sent = 10 * plain.requests_completed
    more = 0 if excess is None else excess * plain.requests_completed
    measured = replace(
        plain, sent_prompt_tokens=0 if excess is None else sent, input_tokens=sent + more
    )
    return trial_record(number, engine=engine, measured=measured)


def chatted(number: int, engine: str, template: int) -> TrialRecord:
    """A trial of chats, around whose contents an engine's template puts so many tokens."""
    plain = replace(measurement(), sent_prompt_tokens=0, template_tokens=template)
    return trial_record(number, engine=engine, measured=plain)


def test_engines_that_agree_need_no_words() -> None:
    assert prompt_count_note([]) is None
    assert prompt_count_note([counted(0, "vllm", 0), counted(1, "sglang", 0)]) is None
    assert prompt_count_note([counted(0, "vllm", 1), counted(1, "vllm", 1)]) is None


def test_prompts_sent_as_text_cannot_be_held_against_what_was_sent() -> None:
    assert prompt_count_note([counted(0, "vllm", None), counted(1, "sglang", 5)]) is None


def test_a_difference_is_told_per_engine_to_the_token() -> None:
    note = prompt_count_note(
        [counted(0, "vllm", 0), counted(1, "sglang", 1), counted(2, "sglang", 3)]
    )
    assert note is not None
    assert "sglang +1 to +3; vllm +0." in note


def test_chats_are_compared_by_their_templates() -> None:
    assert prompt_count_note([chatted(0, "vllm", 12), chatted(1, "sglang", 12)]) is None
    note = prompt_count_note([chatted(0, "vllm", 12), chatted(1, "sglang", 40)])
    assert note is not None
    assert "sglang +40; vllm +12." in note


def test_of_several_vllms_one_that_differs_is_found() -> None:
    note = prompt_count_note([counted(0, "vllm", 0), counted(1, "vllm", -1)])
    assert note is not None
    assert "vllm -1 to +0" in note
