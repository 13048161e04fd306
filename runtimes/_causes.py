"""Root causes of engine failures, by the words engines log them with.

Words of vLLM 0.32 and 0.33, SGLang 0.5, TensorRT-LLM 1.2 and PyTorch. The rows stand from the
particular to the general: the first that matches a line names it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from runtimes.failure import FailureKind


@dataclass(frozen=True, slots=True)
class Cause:
    """One root cause.

    Attributes:
        pattern: found somewhere in the line that tells it.
        while_serving: False for what only a start can fail with; such words in the log of an
            engine that was serving are about some request, not about its end.
    """

    kind: FailureKind
    pattern: re.Pattern[str]
    remedy: str
    while_serving: bool = False


def _start(kind: FailureKind, remedy: str, *patterns: str) -> Cause:
    return Cause(kind, re.compile("|".join(patterns)), remedy)


def _any_time(kind: FailureKind, remedy: str, *patterns: str) -> Cause:
    return Cause(kind, re.compile("|".join(patterns)), remedy, while_serving=True)


MEMORY_REMEDIES: Mapping[FailureKind, str] = {
    FailureKind.OOM_WEIGHTS: (
        "Spread the model over more GPUs (tp, pp), or quantise its weights; a start that is "
        "retried without a change fails the same way."
    ),
    FailureKind.OOM_KV_CACHE: (
        "Raise the engine's memory fraction, shorten the context, or spread the model over more "
        "GPUs, so that more is left for the KV cache."
    ),
    FailureKind.OOM_WARMUP: (
        "Lower the engine's memory fraction, the sequences and tokens in a batch, or the largest "
        "captured graph: what a start tries out needs memory beside weights and KV cache."
    ),
    FailureKind.OOM_SERVING: (
        "Lower the engine's memory fraction or the tokens and sequences in a batch, so that the "
        "largest batch of this load fits beside the KV cache."
    ),
}
"""What to do about a GPU that is full, by what filled it."""

DEVICE_FULL = _any_time(
    FailureKind.OOM_WEIGHTS,
    MEMORY_REMEDIES[FailureKind.OOM_WEIGHTS],
    r"OutOfMemoryError",
    r"(?:CUDA|HIP)(?: error:)? out of memory",
    r"CUDA (?:runtime )?error(?: in .*)?: out of memory",
    r"hipErrorOutOfMemory|cudaErrorMemoryAllocation",
    r"insufficient GPU memory",
)
"""A GPU that is full, in words that do not say of what: how far the start had come says it."""

WEIGHTS_LOADED = re.compile(r"Model loading took |Load weight end\b|GB for model weights")
"""What vLLM, SGLang and TensorRT-LLM log when the weights are in memory."""

CAUSES = (
    _start(
        FailureKind.BAD_ARGUMENT,
        "Correct the argument's name or value under the engine's args or search; "
        "the engine's own --help lists what this version takes.",
        r"error: unrecognized arguments",
        r"error: argument --\S+: (?:invalid|expected)",
        r"error: ambiguous option",
        r"\binvalid choice: ",
        r"Error: No such option",
    ),
    _start(
        FailureKind.EXECUTABLE_MISSING,
        "Install the engine in that environment, or name another under environment.python.",
        r"No module named '?(?:vllm|sglang|tensorrt_llm)\b",
        r"No package metadata was found for (?:vllm|sglang|tensorrt_llm)\b",
    ),
    _start(
        FailureKind.CONTEXT_TOO_LONG,
        "Lower max-model-len to what the model was made for.",
        r"is greater than the derived max_model_len",
        r"SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN",
    ),
    _start(
        FailureKind.MODEL_GATED,
        "Ask for access on the model's page of the Hub, then give its token to the engine: name "
        "HF_TOKEN under the engine's env with `from_env`.",
        r"GatedRepoError",
        r"[Cc]annot access gated repo",
        r"trying to access a gated repo",
    ),
    _start(
        FailureKind.MODEL_MISSING,
        "Check model.id or model.path on the node; a private model needs HF_TOKEN, an offline "
        "node needs the model downloaded first.",
        r"HFValidationError",
        r"LocalEntryNotFoundError",
        r"RepositoryNotFoundError",
        r"RevisionNotFoundError",
        r"GatedRepoError",
        r"does not appear to have a file named",
        r"is not a valid model identifier",
        r"Invalid repository ID or local directory specified",
    ),
    _start(
        FailureKind.QUANTIZATION_MISMATCH,
        "Choose a quantization that the checkpoint holds or that the engine can make of it.",
        r"Quantization method specified in the model config .* does not match",
        r"Cannot find the config file for",
        r"quantization is currently not supported",
        r"Minimum capability:",
        r"Unknown quantization method",
    ),
    _start(
        FailureKind.TOO_MANY_GPUS,
        "Lower tp, pp or dp to the GPUs the engine can see.",
        r"World size \(\d+\) is larger than the number of available GPUs",
        r"invalid device ordinal",
        r"is out of range for CUDA_VISIBLE_DEVICES",
    ),
    _start(
        FailureKind.GPU_BUSY,
        "Another process holds memory of the GPU; end it or lower the engine's memory fraction.",
        r"Free memory on device .* on startup is less than desired GPU memory utilization",
        r"Error in memory profiling\. Initial free memory",
        r"The memory capacity is unbalanced",
    ),
    _start(
        FailureKind.OOM_KV_CACHE,
        MEMORY_REMEDIES[FailureKind.OOM_KV_CACHE],
        r"No available memory for the cache blocks",
        r"KV cache is needed, which is larger than the available KV cache memory",
        r"on kv cache allocation is less than requested memory",
        r"Please try to increase --mem-fraction-static",
        r"exceeds available Mamba cache blocks",
    ),
    _start(
        FailureKind.OOM_WARMUP,
        MEMORY_REMEDIES[FailureKind.OOM_WARMUP],
        r"out of memory occurred when warming up",
        # A capture fails for other reasons too; the words after it tell.
        r"Capture cuda graph failed: .*(?i:out of memory)",
    ),
    _any_time(
        FailureKind.OOM_SERVING,
        MEMORY_REMEDIES[FailureKind.OOM_SERVING],
        r"(?:Prefill|Decode) out of memory",
    ),
    _start(
        FailureKind.OOM_WEIGHTS,
        MEMORY_REMEDIES[FailureKind.OOM_WEIGHTS],
        r"Loaded weights leave no GPU memory",
    ),
    DEVICE_FULL,
    _any_time(
        FailureKind.HOST_OUT_OF_MEMORY,
        "The node's own memory is full, not a GPU's: run fewer trials on the node at once, give "
        "its container more memory, or lower swap and CPU offload.",
        r"^MemoryError\b",
        r"\[Errno 12\]",
        r"std::bad_alloc",
        r"DefaultCPUAllocator: (?:can't|not enough)",
    ),
    _start(
        FailureKind.PORT_IN_USE,
        "Another process took the port; servetune tries again with another one.",
        r"[Aa]ddress already in use",
        r"Errno 98\b",
        r"Failed to bind socket to",
        r"Port is already in use",
    ),
    _any_time(
        FailureKind.COLLECTIVE,
        "The GPUs could not talk to each other; if it comes back, run the engine's NCCL or "
        "network checks on that node.",
        r"NCCL error",
        r"nccl(?:Internal|System|UnhandledCuda|Remote)Error",
        r"DistBackendError",
        r"Watchdog caught collective operation timeout",
    ),
    _any_time(
        FailureKind.RENDEZVOUS,
        "The processes of one engine did not find each other in time; if it comes back, check "
        "that the nodes reach each other's ports, and raise `timeouts.start`.",
        r"Dist(?:Store|Network)Error",
        r"Timed out waiting for engine core processes",
        r"client socket has timed out",
    ),
    _any_time(
        FailureKind.MISSING_KERNEL,
        "This build of the engine has no kernel for that option on this device; drop the option "
        "or install a build made for the device.",
        r"_C::\w+\(\) expected at most",
        r"no kernel image is available",
        r"undefined symbol",
        r"ImportError: lib",
        r"is not currently supported on (?:the )?CPU",
    ),
    _start(
        FailureKind.CPU_BINDING,
        "The engine binds one worker to one NUMA node; set VLLM_CPU_OMP_THREADS_BIND (vLLM) or "
        'SGLANG_CPU_OMP_THREADS_BIND (SGLang) under its env (for example "0|1"), or keep tp '
        "and pp at 1.",
        r"Not enough allowed NUMA nodes to bind threads",
        r"SGLANG_CPU_OMP_THREADS_BIND is not set",
    ),
    _start(
        FailureKind.INVALID_CONFIG,
        "The engine refuses this combination of arguments; exclude it with a constraint.",
        r"\bValue error, ",
        r"\[type=\w+, input_value=",
        r"must be divisible by",
        r"AssertionError: .*(?:tp_size|moe_dense|chunked_prefill)",
        r"world_size must equal",
        r"(?:ValueError|NotImplementedError): .* is not supported for",
        r"Selected backend .* is not valid",
        r"No valid attention backend found",
    ),
)

SIGQUIT = "Received sigquit from a child process"
"""SGLang's last words before it kills its own tree: exit code -9 is then its own doing."""

WRAPPERS = re.compile(
    r"Engine core initialization failed"
    r"|EngineDeadError"
    r"|Worker proc .* died unexpectedly"
    r"|Worker failed with error"
    r"|Executor failed\.$"
    r"|WorkerProc (?:initialization failed|hit an exception|failed to start)"
    r"|EngineCore (?:failed to start|encountered a)"
    rf"|{SIGQUIT}"
    r"|Executor worker (?:returned error|died)"
    r"|Failed to initialize executor"
)
"""Lines that only say that something failed elsewhere."""
