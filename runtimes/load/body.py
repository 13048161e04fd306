"""The JSON body of one request."""

from __future__ import annotations

import orjson

from runtimes.load.job import Api, LoadJob
from runtimes.workloads.base import Prompt


def request_body(prompt: Prompt, job: LoadJob) -> bytes:
    """The JSON of one streamed request of forced length; equal arguments give equal bytes.

    `max_tokens` and `min_tokens` are what vLLM, SGLang and TensorRT-LLM all take for both routes.
    `job.request_fields` come last and win; `job.dropped_fields` are left out.

    Raises:
        ValueError: a chat of a prompt that has no messages.
    """
    if job.api is Api.COMPLETIONS:
        content: dict[str, object] = {"prompt": prompt.token_ids}
    elif prompt.messages:
        messages = [{"role": role, "content": text} for role, text in prompt.messages]
        content = {"messages": messages}
    else:
        raise ValueError(
            "the workload's prompts have no messages, which a chat is made of; "
            "use `api: completions`, or a workload that has texts"
        )
    fields = {
        "model": job.model,
        **content,
        "max_tokens": prompt.output_tokens,
        "min_tokens": prompt.output_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
        **job.request_fields,
    }
    return orjson.dumps({key: fields[key] for key in fields if key not in job.dropped_fields})
