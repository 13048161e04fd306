"""Words for figures, flags and commands."""

from __future__ import annotations

import math
import shlex
import subprocess

import pytest

from runtimes.secrets import MASK
from tracking import words


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (math.nan, "–"),
        (0.0, "0"),
        (0.012345, "0.0123"),
        (5.678, "5.68"),
        (56.78, "56.8"),
        (5678.4, "5,678"),
        (-3.456, "-3.46"),
    ],
)
def test_figures_keep_three_digits_and_whole_integers(value: float | None, shown: str) -> None:
    assert words.figure(value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(4.21, "4.2 s"), (42.3, "42 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")],
)
def test_durations_are_read_at_a_glance(seconds: float, shown: str) -> None:
    assert words.duration(seconds) == shown


def test_instants_are_utc() -> None:
    assert words.instant(1_767_225_600) == "2026-01-01 00:00:00 UTC"


def test_objectives_have_words_and_the_units_of_the_registry() -> None:
    assert words.objective_words("output_throughput_per_gpu") == "output throughput per GPU"
    assert words.objective_words("ttft_p99_ms") == "TTFT p99"
    assert words.objective_words("ttft_scheduled_p99_9_ms") == "TTFT scheduled p99.9"
    assert words.objective_words("energy_per_token_j") == "energy per token"
    assert words.objective_words("slo_attainment") == "SLO attainment"
    assert words.objective_value("ttft_p99_ms", 481.0) == "481 ms"
    assert words.objective_value("output_throughput_per_gpu", 2160.4) == "2,160 tokens/s/GPU"
    assert words.objective_value("my_own", 2.0) == "2.00"


def test_a_known_flag_is_explained_and_another_is_readable() -> None:
    assert words.flag_words("request_errors") == "some of its requests failed"
    assert words.flag_words("clock_skewed") == "clock skewed"


def test_lists_of_trials_stay_short() -> None:
    assert words.trial_list([3]) == "trial 3"
    assert words.trial_list([3, 5, 8]) == "trials 3, 5 and 8"
    assert words.trial_list(range(20), shown=2) == "trials 0, 1 and 18 more"


def test_terminal_escapes_and_controls_are_dropped() -> None:
    dirty = "\x1b[31mred\x1b[0m\x07 \x1b]0;title\x07tab\tline\r\nnul\x00 lone\ud800 end\x1b"
    assert words.printable(dirty) == "red tab\tline\nnul lone end"
    assert words.printable("a\u202e\u202ab\u2066\u2069c") == "abc"


def test_a_pasted_command_is_what_was_planned() -> None:
    argv = [
        *("vllm", "serve", "org/a model", "--port", "{port}", "--host", "{host}"),
        *("--seed", "-1", "--extra", '{"a": "it\'s"}', "-tp", "2"),
    ]
    shown = words.shell_command(argv, {"B": "two words", "A": "1"})
    assert shown.splitlines()[:3] == [
        "A=1 \\",
        "  B='two words' \\",
        "  vllm serve 'org/a model' \\",
    ]
    assert "  --seed -1 \\" in shown.splitlines()
    wanted = [part.replace("{port}", "8000").replace("{host}", "127.0.0.1") for part in argv]
    assert shlex.split(shown.replace("\\\n", " "))[2:] == wanted


def test_a_shell_runs_the_pasted_command() -> None:
    argv = ["printf", "%s|", "--x", "$HOME `id`", "a'b"]
    shown = words.shell_command(argv, {"SERVETUNE_WORD": "x y"})
    done = subprocess.run(["sh", "-c", shown], capture_output=True, text=True, check=True)
    assert done.stdout == "--x|$HOME `id`|a'b|"


def test_masked_variables_are_not_pasted() -> None:
    shown = words.shell_command(["vllm"], {"HF_TOKEN": MASK, "MODE": "fast"})
    assert shown == "MODE=fast \\\n  vllm"
