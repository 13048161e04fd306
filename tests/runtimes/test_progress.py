"""Steps of a start, read from what real engines logged."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtimes.progress import LogProgress, Progress, Step, progress_of

STARTED = Path(__file__).parents[1] / "golden" / "vllm_logs" / "started.txt"


def steps_of(text: str) -> list[Step]:
    """Steps as they change over the lines of a log."""
    steps: list[Step] = []
    for line in text.splitlines():
        found = progress_of(line)
        if found is not None and [found.step] != steps[-1:]:
            steps.append(found.step)
    return steps


def test_a_real_vllm_start_goes_through_its_steps() -> None:
    text = STARTED.read_text(encoding="utf-8")
    assert steps_of(text) == [Step.LOADING, Step.SIZING, Step.LISTENING]


@pytest.mark.parametrize(
    ("line", "progress"),
    [
        # vLLM
        (
            "(EngineCore pid=9) INFO 06-02 00:51:12 [runner.py:295] Starting to load model m...",
            Progress(Step.LOADING),
        ),
        (
            "Loading safetensors checkpoint shards:  67% Completed | 2/3 [00:17<00:08,  8.9s/it]",
            Progress(Step.LOADING, 2, 3),
        ),
        (
            "INFO 06-02 00:51:40 [runner.py:295] Model loading took 7.64 GiB and 32.96 seconds",
            Progress(Step.SIZING),
        ),
        (
            "INFO [backends.py:1089] Using cache directory: /c for vLLM's torch.compile",
            Progress(Step.COMPILING),
        ),
        ("INFO [monitor.py:40] Starting torch.compile", Progress(Step.COMPILING)),
        (
            "INFO [backends.py:1148] Dynamo bytecode transform time: 8.52 s",
            Progress(Step.COMPILING),
        ),
        (
            "INFO [backends.py:418] Compiling a graph for compile range (1, 8192) takes 9.1 s",
            Progress(Step.COMPILING),
        ),
        ("INFO [monitor.py:53] torch.compile took 19.48 s in total", Progress(Step.SIZING)),
        (
            "INFO [monitor.py:53] torch.compile and initial profiling/warmup run together took 1 s",
            Progress(Step.SIZING),
        ),
        (
            "Capturing CUDA graphs (mixed prefill-decode, PIECEWISE):  40%|████    | 21/52 [00:03",
            Progress(Step.CAPTURING, 21, 52),
        ),
        ("Capturing prefill CUDA graphs: 100%|██| 7/7 [00:01<00", Progress(Step.CAPTURING, 7, 7)),
        (
            "INFO [gpu_model_runner.py:6517] Graph capturing finished in 12 secs, took 0.5 GiB",
            Progress(Step.WARMING),
        ),
        (
            "INFO [model_runner.py:13] Warming up model for the compilation...",
            Progress(Step.WARMING),
        ),
        ("INFO [entry.py:139] Starting vLLM server on http://h:1", Progress(Step.LISTENING)),
        # SGLang
        (
            "[2025-03-27 21:33:25 TP0] Load weight begin. avail mem=139.2 GB",
            Progress(Step.LOADING),
        ),
        (
            "[2025-03-27 21:33:30 TP0] Load weight end. type=Gemma3, dtype=torch.bfloat16",
            Progress(Step.SIZING),
        ),
        (
            "[2025-03-27 21:33:31 TP0] Capture cuda graph begin. This can take several minutes.",
            Progress(Step.CAPTURING),
        ),
        (
            "[2026-07-31 12:44:12] Capture target decode CUDA graph begin. bs=[1, 2]",
            Progress(Step.CAPTURING),
        ),
        (
            "Capturing batches (bs=216 avail_mem=10.30 GB):  42%|████▏     | 22/52 [00:03<00:04",
            Progress(Step.CAPTURING, 22, 52),
        ),
        (
            "[2025-11-30 11:18:01] Capture cuda graph end. Time elapsed: 5.92 s. mem usage=1.4 GB.",
            Progress(Step.WARMING),
        ),
        (
            "[2026-01-01 00:00:00] The server is fired up and ready to roll!",
            Progress(Step.LISTENING),
        ),
        # TensorRT-LLM
        (
            "[07/24/2025-08:13:02] [TRT-LLM] [I] Rank 0 prefetching /m/1.safetensors to memory",
            Progress(Step.LOADING),
        ),
        (
            "Loading safetensors weights in parallel: 100%|████████| 1/1 [00:00<00:00, 205.99it/s]",
            Progress(Step.LOADING, 1, 1),
        ),
        (
            "Loading weights:  50%|█████     | 595/1190 [00:31<00:31, 19.26it/s]",
            Progress(Step.LOADING, 595, 1190),
        ),
        ("[11/07/2025] [TRT-LLM] [I] Running autotuner warmup...", Progress(Step.WARMING)),
        (
            "[11/07/2025] [TRT-LLM] [I] Creating CUDA graph instances for 32 batch sizes.",
            Progress(Step.CAPTURING),
        ),
        (
            "[TRT-LLM] [I] Run generation-only CUDA graph warmup for batch size=32, draft_len=0",
            Progress(Step.CAPTURING),
        ),
        # none of theirs
        ("(APIServer pid=9) INFO [model.py:2152] Using max model len 1024", None),
        ("", None),
    ],
)
def test_lines_of_each_engine(line: str, progress: Progress | None) -> None:
    assert progress_of(line) == progress


def test_words_for_users() -> None:
    assert str(Progress()) == "launching"
    assert str(Progress(Step.LOADING, 3, 8)) == "loading weights, 3 of 8 (38%)"
    assert str(Progress(Step.LOADING, 0, 0)) == "loading weights"


def test_a_log_is_followed_as_it_grows(tmp_path: Path) -> None:
    log = tmp_path / "engine.log"
    progress = LogProgress(log)
    assert progress.read() == Progress()
    shard = "Loading safetensors checkpoint shards:  %d%% Completed | %d/4 [00:01"
    with log.open("a", encoding="utf-8") as file:
        for number in range(5):
            file.write(("\r" if number else "") + shard % (25 * number, number))
            file.flush()
            assert progress.read() == Progress(Step.LOADING, number, 4)
        file.write("\nnothing to see\n")
        file.flush()
        assert progress.read() == Progress(Step.LOADING, 4, 4)


def test_a_line_cut_in_two_is_read_once_it_is_whole(tmp_path: Path) -> None:
    log = tmp_path / "engine.log"
    progress = LogProgress(log)
    with log.open("a", encoding="utf-8") as file:
        file.write("INFO Model load")
        file.flush()
        assert progress.read().step is Step.LAUNCHING
        file.write("ing took 7.64 GiB\n")
        file.flush()
        assert progress.read().step is Step.SIZING


def test_a_log_that_grew_by_much_is_read_from_its_end(tmp_path: Path) -> None:
    log = tmp_path / "engine.log"
    log.write_text("Load weight begin\n" + "x" * (3 << 20) + "\nLoad weight end\n")
    assert LogProgress(log).read().step is Step.SIZING
    log.write_text("Load weight begin\n" + "x\n" * (3 << 19))
    assert LogProgress(log).read().step is Step.LAUNCHING
