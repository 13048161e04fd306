"""A recorded run as pandas frames."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from runtimes.errors import RunFolderError
from runtimes.measurement import RequestRecord
from tests.tracking.run_samples import measurement, trial_record
from tracking.layout import RunLayout
from tracking.open import open_run
from tracking.parquet.write import RecordWriter, encode_requests, encode_samples
from tracking.records import Sample, StageRecord

_RUN = "demo-20260101T000000Z-abcd"


def _request(index: int, output_tokens: int | None = 2) -> RequestRecord:
    sent_ns = 10_000_000 * index
    return RequestRecord(
        index, sent_ns, sent_ns, (sent_ns + 1_000_000, sent_ns + 3_000_000), sent_ns + 4_000_000,
        prompt_tokens=8, output_tokens=output_tokens, requested_output_tokens=2,
    )  # fmt: skip


@pytest.fixture
def layout(tmp_path: Path) -> RunLayout:
    """A run with trials 0 (one attempt) and 1 (two attempts)."""
    layout = RunLayout(tmp_path / _RUN)
    layout.create()
    writer = RecordWriter(layout, {"tp": "int", "max-num-seqs": "int"}, ["goodput_per_gpu"])
    writer.trial(trial_record(0))
    for attempt in (1, 0):
        writer.trial(trial_record(1, attempt=attempt, params={"max-num-seqs": 64}))
        writer.stage(StageRecord(_RUN, 1, attempt, 0, "poisson", 8.0, 0.0, 1.0, measurement()))
        payload = encode_requests(
            run=_RUN, number=1, attempt=attempt, stage=0, records=[_request(1), _request(0, None)]
        )
        writer.requests(1, attempt, 0, payload)
        samples = [Sample(at_ns, 0.0, 0, "m", "vllm:m", 1.0) for at_ns in (20, 10)]
        payload = encode_samples(run=_RUN, number=1, attempt=attempt, samples=samples)
        writer.samples(1, attempt, payload)
    return layout


def test_trials_are_one_ordered_frame_with_exact_integers(layout: RunLayout) -> None:
    frame = open_run(layout.root).pandas.trials()
    assert list(zip(frame["number"], frame["attempt"], strict=True)) == [(0, 0), (1, 0), (1, 1)]
    assert frame["param_tp"].dtype == "Int64"
    assert frame["param_max_num_seqs"].isna().tolist() == [True, False, False]
    assert frame["versions"].iloc[0]["python"] == "3.11.7"


def test_stages_requests_and_samples(layout: RunLayout) -> None:
    run = open_run(_RUN, layout.root.parent)
    assert run.layout == layout
    frames = run.pandas
    assert frames.stages()["attempt"].tolist() == [0, 1]
    requests = frames.requests(1)
    assert requests["attempt"].tolist() == [0, 0, 1, 1]
    assert requests["index"].tolist() == [0, 1, 0, 1]
    assert requests["ttft_ms"].tolist() == [1.0] * 4
    assert requests["tpot_ms"].isna().tolist() == [True, False, True, False]
    assert frames.samples(1)["at_ns"].tolist() == [10, 20, 10, 20]


def test_what_is_not_there_is_an_empty_frame_with_columns(layout: RunLayout) -> None:
    run = open_run(str(layout.root)).pandas
    assert len(run.requests(0)) == 0
    assert {"ttft_ms", "index"} <= set(run.requests(0).columns)
    assert len(run.samples(7)) == 0
    for file in layout.files("trials"):
        file.path.unlink()
    assert len(run.trials()) == 0
    assert "goodput" in run.trials().columns


def test_a_column_that_is_not_there_is_left_out_of_every_table(layout: RunLayout) -> None:
    run, columns = open_run(layout.root), ["run", "not_there"]
    tables = [
        *(run.trials(columns), run.stages(columns), run.events(columns)),
        *(run.requests(1, columns), run.samples(1, columns)),
    ]
    assert [table.column_names for table in tables] == [["run"]] * 5


def test_a_damaged_file_costs_its_own_rows(
    layout: RunLayout, caplog: pytest.LogCaptureFixture
) -> None:
    layout.attempt_file("trials", 0, 0).write_bytes(b"torn")
    assert open_run(layout.root).pandas.trials()["number"].tolist() == [1, 1]
    assert str(layout.attempt_file("trials", 0, 0)) in caplog.text


def test_no_run_is_a_run_folder_error(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="no run found"):
        open_run(tmp_path / "nothing")


def test_without_pandas_the_extra_is_named(layout: RunLayout) -> None:
    code = (
        "import sys\n"
        "sys.modules['pandas'] = None\n"
        "from runtimes.errors import MissingToolError\n"
        "from tracking.open import open_run\n"
        "try:\n"
        "    open_run(sys.argv[1]).pandas.trials()\n"
        "except MissingToolError as error:\n"
        "    sys.exit(str(error))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(layout.root)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr.strip().endswith("pip install 'servetune[pandas]'")
