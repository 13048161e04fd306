"""Tables of measurements in, tables with predictions out."""

from __future__ import annotations

import csv
import gzip
import io
import os
import subprocess
from pathlib import Path

import pytest

from orchestrator.cli.predict_batch import ADDED, REQUIRED, run_batch
from runtimes.errors import UserError

COLUMNS = ("source", "engine", "model", "quant", "gpu", "num_gpus", "tp", "isl", "osl",
           "concurrency_or_max", "note", "ttft_ms", "my own")  # fmt: skip
DENSE = ("other", "vllm", "Llama-3.3-70B", "fp8", "H200", "4", "4", "1000", "500", "64", "", "1",
         "a,b")  # fmt: skip


def changed(**cells: str) -> tuple[str, ...]:
    return tuple(cells.get(column, value) for column, value in zip(COLUMNS, DENSE, strict=True))


KINDS = {
    "unknown model": changed(model="Qwen/Qwen9"),
    "unknown accelerator": changed(gpu="TPU-v9"),
    "static": changed(source="argonne", concurrency_or_max="16"),
    "prefill": changed(source="trtllm-first-token", osl="1"),
    "overview": changed(source="trtllm-perf-overview", concurrency_or_max="max"),
    "too fast": changed(source="trtllm-online-serving", concurrency_or_max="qps=9000"),
    "limits": changed(source="mlperf", model="llama2-70b-99", concurrency_or_max="Server", tp=""),
    "too large": changed(num_gpus="1", tp="1", quant="bf16", gpu="L4"),
    "roles": changed(
        source="inferencemax-raw-disagg", num_gpus="12",
        note="DISAGG prefill 1x tp4 ep1 (4 gpus) decode 1x tp8 ep1 (8 gpus)",
    ),
}  # fmt: skip


def write(path: Path, *rows: tuple[str, ...]) -> Path:
    buffer = io.StringIO()
    csv.writer(buffer).writerows([COLUMNS, *rows])
    path.write_text(buffer.getvalue(), encoding="utf-8")
    return path


def predicted(path: Path, *rows: tuple[str, ...]) -> list[dict[str, str]]:
    out = path / "out.csv"
    assert run_batch(write(path / "rows.csv", *rows), out) == 0
    with out.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_row_comes_back_in_order_with_its_prediction_or_a_reason(tmp_path: Path) -> None:
    first, *others = predicted(tmp_path, DENSE, *KINDS.values())
    by_kind = dict(zip(KINDS, others, strict=True))
    assert list(first) == [*COLUMNS, *ADDED]
    assert first["my own"] == "a,b"
    assert float(first["predicted_tpot_ms"]) > 4
    assert float(first["predicted_output_tok_s"]) > 500
    assert first["predicted_fits"] == "true"
    assert 0 < float(first["uncertainty"]) < 2
    assert by_kind["unknown model"]["reason"].startswith("unknown model 'Qwen/Qwen9'")
    assert by_kind["unknown accelerator"]["reason"].startswith("unknown accelerator 'TPU-v9'")
    assert by_kind["unknown accelerator"]["predicted_fits"] == ""
    too_large = by_kind["too large"]
    assert too_large["predicted_fits"] == "false"
    assert too_large["reason"].startswith("weights of 131.4 GiB and one request of 1,500 tokens")
    assert [too_large[name] for name in ADDED[:3]] == ["", "", ""]
    assert "faster than they can be served" in by_kind["too fast"]["reason"]
    assert by_kind["too fast"]["predicted_ttft_ms"] == ""


def test_kinds_of_rows_state_what_such_rows_measure(tmp_path: Path) -> None:
    _, *others = predicted(tmp_path, DENSE, *KINDS.values())
    by_kind = dict(zip(KINDS, others, strict=True))
    static, prefill = by_kind["static"], by_kind["prefill"]
    assert prefill["predicted_ttft_ms"]
    assert not prefill["predicted_tpot_ms"]
    whole_s = (float(static["predicted_ttft_ms"]) + 499 * float(static["predicted_tpot_ms"])) / 1e3
    assert float(static["predicted_output_tok_s"]) == pytest.approx(16 * 500 / whole_s, rel=1e-3)
    assert float(by_kind["limits"]["predicted_output_tok_s"]) > 1000
    assert "99th percentiles" in by_kind["limits"]["extrapolates"]
    roles = by_kind["roles"]
    under_way_s = 64 * 500 * 0.9 / float(roles["predicted_output_tok_s"])
    answer_s = (500 * 0.9 - 1) * float(roles["predicted_tpot_ms"]) / 1e3
    first_s = float(roles["predicted_ttft_ms"]) / 1e3
    assert under_way_s == pytest.approx(first_s + answer_s, rel=1e-3)


def test_measured_columns_change_nothing_and_old_predictions_are_replaced(tmp_path: Path) -> None:
    (once,) = predicted(tmp_path, DENSE)
    (other,) = predicted(tmp_path, changed(ttft_ms="99999"))
    assert {name: once[name] for name in ADDED} == {name: other[name] for name in ADDED}
    out = tmp_path / "again.csv"
    assert run_batch(tmp_path / "out.csv", out) == 0
    with out.open(encoding="utf-8", newline="") as file:
        assert list(csv.DictReader(file)) == [other]


def test_gzipped_tables_are_read_and_written(tmp_path: Path) -> None:
    plain = write(tmp_path / "rows.csv", DENSE)
    packed = tmp_path / "rows.csv.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    run_batch(packed, tmp_path / "out.csv.gz")
    run_batch(plain, tmp_path / "out.csv")
    unpacked = gzip.decompress((tmp_path / "out.csv.gz").read_bytes())
    assert unpacked == (tmp_path / "out.csv").read_bytes()


def test_the_columns_that_a_table_needs_are_enough(tmp_path: Path) -> None:
    path, out = tmp_path / "rows.csv", tmp_path / "out.csv"
    cells = ("vllm", "Llama-3.1-8B", "fp8", "H200", "1000", "500", "64")
    longer = ("vllm", "Qwen/Qwen3-8B", "bf16", "H200", "100000", "500", "4")
    path.write_text("\n".join(map(",".join, (REQUIRED, cells, longer))), encoding="utf-8")
    run_batch(path, out)
    with out.open(encoding="utf-8", newline="") as file:
        first, second = csv.DictReader(file)
    assert float(first["predicted_tpot_ms"]) > 1
    assert "the row names no GPUs: taken as one" in first["extrapolates"]
    assert "100,500 tokens are longer than the 40,960" in second["extrapolates"]


@pytest.mark.parametrize("cell", ["1.5", "1_000", "١٠٠٠", "inf", "nan", "-1", "many"])
def test_a_length_that_is_no_whole_number_is_a_reason(tmp_path: Path, cell: str) -> None:
    (row,) = predicted(tmp_path, changed(isl=cell))
    assert row["reason"] == f"isl is {cell!r}, not a whole number up to 10000000"


def test_a_pipe_is_written_to_and_stays_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe, link, got = tmp_path / "pipe", tmp_path / "link", tmp_path / "got"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    with got.open("wb") as file:
        reader = subprocess.Popen(["cat", pipe], stdout=file)
    rows = write(tmp_path / "rows.csv", DENSE)
    run_batch(rows, link)
    assert reader.wait(timeout=30) == 0
    assert not capsys.readouterr().out
    assert pipe.is_fifo()
    assert link.is_symlink()
    run_batch(rows, tmp_path / "out.csv")
    assert got.read_bytes() == (tmp_path / "out.csv").read_bytes()


def test_a_row_with_too_few_cells_is_a_reason_of_its_own(tmp_path: Path) -> None:
    short, whole = predicted(tmp_path, DENSE[:4], DENSE)
    assert short["reason"] == "the row has more or fewer cells than the header"
    assert whole["reason"] == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no rows"),
        (",".join(COLUMNS).encode() + b"\n", "has no rows"),
        (b"model,gpu\nx,y\n", f"lacks the columns {REQUIRED[0]}"),
        (b"\xff\xfe\x00\n", "is not UTF-8"),
        (b"\x1f\x8bxx", "cannot be read"),
        (gzip.compress(b"a,b\n1,2\n" * 99)[:12] + b"\xff" * 40, "cannot be read"),
        (b'a,b\n"open', "is no CSV file"),
        (",".join([*COLUMNS, "isl"]).encode() + b"\n1\n", "'isl' twice"),
    ],
)
def test_a_broken_table_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        run_batch(path, tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_paths_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.csv cannot be read"):
        run_batch(tmp_path / "absent.csv", tmp_path / "out.csv")
    with pytest.raises(UserError, match="is no folder"):
        run_batch(write(tmp_path / "rows.csv", DENSE), tmp_path / "no" / "out.csv")


def test_thousands_of_rows_are_predicted_together(tmp_path: Path) -> None:
    found = predicted(tmp_path, *[DENSE, KINDS["static"]] * 1500)
    assert len(found) == 3000
    assert len({row["predicted_tpot_ms"] for row in found}) == 2
