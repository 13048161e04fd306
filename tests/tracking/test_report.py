"""The report: one page that needs nothing else, says what was found, and trusts no text."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Literal

import pytest

from runtimes.failure import Failure, FailureKind
from runtimes.secrets import MASK
from search.trial import TrialState
from tests.tracking.run_samples import (
    distribution,
    measurement,
    out_of_memory,
    run_data,
    study,
    trial_record,
)
from tracking.records import TrialRecord
from tracking.report import render_report, write_report
from tracking.report_plots import plot_views, uses_shaders
from tracking.report_script import json_block, scripts
from tracking.report_view import MAX_TRIALS, gain_words
from tracking.run_data import Goal, RunData

_HOSTILE = "</pre></title><script>alert('x')</script><img src=http://x.invalid/ onerror=y>&amp;\"'"
_VOID = {"meta", "br", "hr", "img", "input", "link"}


class _Page(HTMLParser):
    """A parsed report; fails on tags that do not match."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.text_by_tag: dict[str, list[str]] = {}
        self.scripts: list[tuple[str | None, str]] = []
        self._open: list[str] = []
        self.feed(source)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag == "script":
            self.scripts.append((dict(attrs).get("type"), ""))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "script":
            kind, text = self.scripts.pop()
            self.scripts.append((kind, text + data))
            return
        for tag in set(self._open):
            self.text_by_tag.setdefault(tag, []).append(data)

    def text(self, tag: str = "body") -> str:
        return re.sub(r"\s+", " ", " ".join(self.text_by_tag.get(tag, [])))


def _hostile_run() -> RunData:
    failure = Failure(
        FailureKind.CRASHED,
        _HOSTILE,
        remedy=_HOSTILE,
        log_tail=f"\x1b[31m{_HOSTILE}\x00\n{_HOSTILE}",
    )
    trials = [
        replace(
            trial_record(0, params={_HOSTILE: _HOSTILE}, engine=_HOSTILE, flags=(_HOSTILE,)),
            deploy_command=("vllm", "serve", _HOSTILE),
            env={"MODE": _HOSTILE},
            bundle=_HOSTILE,
            node=_HOSTILE,
            engine_version=_HOSTILE,
            engine_config={_HOSTILE: _HOSTILE},
            versions={_HOSTILE: _HOSTILE},
        ),
        trial_record(1, state=TrialState.FAILED, failure=failure, params={"a": [_HOSTILE]}),
        trial_record(2, state=TrialState.PRUNED, reason=_HOSTILE),
    ]
    data = run_data(trials, excluded={_HOSTILE: 3}, ended=_HOSTILE)
    return replace(data, name=_HOSTILE, run=_HOSTILE, experiment={_HOSTILE: _HOSTILE})


@pytest.mark.parametrize("data", [study(), _hostile_run()], ids=["study", "hostile"])
def test_the_page_needs_nothing_but_itself(data: RunData) -> None:
    page = _Page(render_report(data))
    assert not set(page.tags) & {"link", "img", "iframe", "object", "embed", "base"}
    for tag, name, value in page.attributes:
        if name == "href":
            assert value is not None
            assert value.startswith("#"), (tag, value)
        assert name not in ("src", "srcset", "action", "data", "xlink:href"), (tag, value)
        assert not name.startswith("on"), (tag, name)
    styles = "".join(page.text_by_tag["style"])
    assert "url(" not in styles
    assert "@import" not in styles


def test_only_the_two_scripts_may_run_and_nothing_is_fetched() -> None:
    page = _Page(render_report(_hostile_run()))
    (policy,) = [value for _, _, value in page.attributes if value and "default-src" in value]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert "'unsafe-inline'" not in rules["script-src"]
    allowed = {part for part in rules["script-src"].split() if part.startswith("'sha256-")}
    runs, kinds = _scripts(page)
    assert {_hash(text) for text in runs} == {_hash(str(scripts().own))}
    packed = gzip.decompress(base64.b64decode(str(scripts().plotly)))
    assert allowed == {_hash(str(scripts().own)), _hash(packed.decode())}
    assert set(kinds) <= {None, "application/json", "text/plain"}


def _scripts(page: _Page) -> tuple[list[str], list[str | None]]:
    """Texts of the scripts that a browser runs, and the kinds of all script elements."""
    found = page.scripts
    return [text for kind, text in found if kind is None], [kind for kind, _ in found]


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def test_code_may_be_made_of_text_only_where_webgl_needs_it() -> None:
    plain, shaders = (scripts().policy(shaders=each) for each in (False, True))
    assert "unsafe-eval" not in plain
    assert shaders == plain.replace("; style-src", " 'unsafe-eval'; style-src")
    assert uses_shaders({"data": [{"type": "scatter"}, {"type": "parcoords"}]})
    assert uses_shaders({"data": [{"type": "scattergl"}]})
    assert not uses_shaders({"data": [{"type": "bar"}, {"x": [1]}]})


@pytest.mark.parametrize(
    "value", ["</script><script>alert(1)</script>", "<!--<script>", "&lt;", "\u2028", "é\ud800"]
)
def test_no_text_ends_a_block_of_json(value: str) -> None:
    block = str(json_block({value: [value, 1.5, float("nan"), -float("inf"), None, True]}))
    assert not set(block) & set("<>&\u2028")
    assert json.loads(block) == {value: [value, 1.5, None, None, None, True]}


def test_hostile_texts_are_shown_as_text() -> None:
    source = render_report(_hostile_run())
    assert "<img" not in source
    page = _Page(source)
    assert page.text_by_tag["title"][0] == f"{_HOSTILE} – servetune report"
    logs = "".join(page.text_by_tag["pre"])
    assert logs.count(_HOSTILE) >= 2
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", source)


def test_the_verdict_names_trial_value_and_gain() -> None:
    text = _Page(render_report(study())).text()
    assert (
        "Trial 9, vllm on 2 GPUs: goodput of 8.44 requests/s/GPU within the service-level "
        "objective, 68 % more than the engine's defaults (trial 0)." in text
    )
    assert "simulated" not in text


def test_the_command_can_be_copied_as_it_stands() -> None:
    source = render_report(study())
    assert (
        '<pre id="best-command">vllm serve meta-llama/Llama-3.1-8B \\\n'
        "  --tensor-parallel-size 2 \\\n"
        "  --max-num-seqs 256 \\\n"
        "  --max-num-batched-tokens 16384</pre>" in source
    )


def test_a_simulated_best_is_marked_at_its_command() -> None:
    text = _Page(render_report(study(simulated=True))).text()
    assert "Command to deploy found on a simulated engine" in text
    assert "Measure the command on real hardware" in text


def test_masked_variables_do_not_reach_the_command() -> None:
    trial = replace(trial_record(0), env={"HF_TOKEN": MASK, "MODE": "fast"})
    page = _Page(render_report(run_data([trial])))
    assert "HF_TOKEN" not in page.text()
    assert "MODE=fast" in page.text("pre")


def test_every_trial_has_its_row_the_best_first() -> None:
    source = render_report(study())
    table = source.partition('id="trials"')[2].partition("</section>")[0]
    numbers = re.findall(r'<tr[^>]*>\s*<td class="number">(\d+)</td>', table)
    assert numbers == ["9", "7", "5", "2", "1", "10", "0", "6", "3", "4", "8", "11"]
    row = table[table.index(' class="best">') :].partition("</tr>")[0]
    cells = [re.sub(r"<[^>]+>|\s+", " ", cell).strip() for cell in row.split("</td>")]
    assert cells[-7:-1] == ["8.44", "477", "39.3", "4,320", "2,160", "met"]
    assert "TTFT p99 above 4 times its limit after the first stage" in table
    assert "flagged: some of its requests failed" in table


def test_limits_that_are_broken_are_named() -> None:
    broken = measurement(ttft_ms=900.0, tpot_ms=60.0)
    source = render_report(run_data([trial_record(0, measured=broken)]))
    assert 'title="ttft p99 ≤ 500 ms; tpot p99 ≤ 40 ms">broken' in source
    assert "but it breaks the service-level objective" in source


def test_failures_come_with_cause_remedy_and_log() -> None:
    page = _Page(render_report(study()))
    text = page.text()
    assert "crashed 1 attempt" in text
    assert "RuntimeError: CUDA error: an illegal memory access was encountered (signal 6)" in text
    assert "What to do: Lower gpu-memory-utilization or raise tp." in text
    assert "torch.OutOfMemoryError: CUDA out of memory." in page.text("details")


def test_exclusions_and_gpu_time_are_there() -> None:
    text = _Page(render_report(study())).text()
    assert "tp 8 · pp 2 · dp 1 needs 16 GPUs, a node has 8 48" in text
    assert "8,884 GPU-seconds busy, 1,564 GPU-seconds idle (15%)." in text


def test_provenance_lists_what_the_run_was_made_with() -> None:
    text = _Page(render_report(study())).text()
    for words in ("GPU H200", "seed 7", "vllm version 0.33.0", "sglang version 0.5.16"):
        assert words in text
    assert "Configuration that trial 9 resolved to max_num_seqs 256" in text


def test_two_goals_mark_the_pareto_front() -> None:
    goals = [Goal("goodput_per_gpu", "maximize"), Goal("ttft_p99_ms", "minimize")]
    trials = [
        trial_record(0, objectives={"goodput_per_gpu": 4.0, "ttft_p99_ms": 300.0}),
        trial_record(1, objectives={"goodput_per_gpu": 3.0, "ttft_p99_ms": 200.0}),
        trial_record(2, objectives={"goodput_per_gpu": 2.0, "ttft_p99_ms": 250.0}),
    ]
    source = render_report(run_data(trials, goals=goals))
    assert source.count('<span class="badge quiet">Pareto</span>') == 2
    chosen = source.partition('id="choices"')[2].partition("</section>")[0]
    assert re.findall(r"<b>Trial (\d+)</b>", chosen) == ["0", "1"]
    assert "2 on the Pareto front of goodput per GPU, TTFT p99" in _Page(source).text()


@pytest.mark.parametrize(
    "trials",
    [
        [],
        [trial_record(0, state=TrialState.FAILED, failure=out_of_memory())],
        [
            replace(
                trial_record(0, state=TrialState.INFEASIBLE, reason="needs 16 GPUs", gpu_ids=()),
                started_unix_s=None,
                ended_unix_s=None,
                gpu_seconds=0.0,
            )
        ],
        [trial_record(0, measured=replace(measurement(limits=False), ttft_ms=None, tpot_ms=None))],
        [trial_record(0, measured=replace(measurement(), ttft_ms=distribution(0.0)))],
    ],
    ids=["empty", "failed", "infeasible", "no-latencies", "zero"],
)
def test_runs_with_little_to_show_render(trials: list[TrialRecord]) -> None:
    page = _Page(render_report(run_data(trials, ended="", capacity_gpus=0)))
    assert "The run has not ended in good order" in page.text()


def test_what_has_no_room_is_left_out_and_the_page_says_so() -> None:
    failure = replace(out_of_memory(), log_tail="first line\n" + "x" * 100_000 + "\nlast line")
    failed = [
        trial_record(number, state=TrialState.FAILED, failure=failure, params={"a": "y" * 5000})
        for number in range(300)
    ]
    many = [trial_record(300 + number) for number in range(MAX_TRIALS)]
    source = render_report(run_data([*failed, *many]))
    assert len(source.encode()) < 10e6
    text = _Page(source).text()
    assert "The first 2,000 of 2,300; all stand in the folder trials/ of the run." in text
    assert "The first 25 of 300 attempts" in text
    assert "last line" in text
    assert "first line" not in text
    assert "94,021 characters before" in text


def test_plots_without_room_name_the_files_that_have_them() -> None:
    complete, small, none = (plot_views(study(), room) for room in (10**7, 9_000, 0))
    assert all(view.payload and view.has_table and not view.left_out for view in complete)
    assert [bool(view.payload) for view in none] == [False] * len(complete)
    assert "The plot and its 8 rows of values are too many for this page" in none[0].left_out
    assert "pareto.csv and pareto.png" in none[0].left_out
    assert sum(len(view.payload) for view in small) < 10_000
    assert small[0].payload
    assert all(json.loads(view.payload)["figure"] for view in small if view.payload)


def test_the_file_is_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    write_report(study(), path)
    assert path.read_text(encoding="utf-8") == render_report(study())
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


def test_a_goal_that_is_also_a_limit_is_shown_once_and_less_is_better() -> None:
    trials = [
        trial_record(0, objectives={"ttft_p99_ms": 300.0}, baseline=True),
        trial_record(1, objectives={"ttft_p99_ms": 240.0}),
    ]
    source = render_report(run_data(trials, goals=[Goal("ttft_p99_ms", "minimize")]))
    assert source.count('<span class="name">TTFT p99</span>') == 1
    assert "TTFT p99 of 240 ms within the service-level objective, 20 % less than" in source


@pytest.mark.parametrize(
    ("direction", "ratio", "words"),
    [
        ("maximize", 1.001, "the same as the engine's defaults"),
        ("maximize", 2.6, "2.6 times that of the engine's defaults"),
        ("maximize", 0.9, "10 % less than the engine's defaults"),
        ("minimize", 1.25, "20 % less than the engine's defaults"),
    ],
)
def test_gains_are_said_in_the_direction_of_the_goal(
    direction: Literal["maximize", "minimize"], ratio: float, words: str
) -> None:
    assert gain_words(Goal("x", direction), ratio, "the engine's defaults") == words
