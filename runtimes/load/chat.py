"""What of a streamed choice was generated, for each of the two routes.

A *content chunk* is an event that stands for tokens of the answer. Engines show those in different
ways, found in the sources of vLLM 0.32, SGLang 0.5.23 and TensorRT-LLM 1.3:

- Completions: each of them sends one event per step that made tokens, and nothing else with a
  choice in it. The text may be empty: a token may decode to nothing, or to nothing yet (half a
  UTF-8 sequence, a word held back for a stop string).
- Chat: each sends the role first, before or together with the first token's event, in a chunk of
  its own that stands for no token. vLLM and TensorRT-LLM then send every step, with an empty
  `content` where it has no text; SGLang sends steps that have text only. The chunk that closes the
  answer carries the last token (vLLM, TensorRT-LLM), or only `finish_reason` (SGLang, OpenAI).
"""

from __future__ import annotations

from collections.abc import Mapping

_GENERATED = ("reasoning_content", "reasoning", "tool_calls", "refusal")
"""Where else than in `content` a delta has what the model wrote. vLLM says `reasoning` since 0.11,
SGLang and TensorRT-LLM say `reasoning_content`."""

NO_TEXT = "\N{OBJECT REPLACEMENT CHARACTER}"
"""Stands in a kept text for what is no text, a tool call for one."""


def completion_text(choice: Mapping[str, object]) -> str | None:
    """The text of a choice of `/v1/completions`: every choice is content."""
    text = choice.get("text")
    return text if isinstance(text, str) else _words(text)


def chat_text(choice: Mapping[str, object]) -> str | None:
    """The text of a choice of `/v1/chat/completions`; None where it stands for no token.

    That is one without any text, unless it has an empty `content` and no role.
    """
    delta = choice.get("delta")
    if not isinstance(delta, dict):
        return None
    content = delta.get("content")
    if content:
        return content if isinstance(content, str) else _words(content)
    for name in _GENERATED:
        generated = delta.get(name)
        if generated:
            return _words(generated)
    return None if content is None or delta.get("role") else ""


def _words(value: object) -> str:
    """`value` if it is text, a sign for anything else that is there, and nothing for nothing."""
    if isinstance(value, str):
        return value
    return NO_TEXT if value else ""
