"""The pictures of the README, and the script that makes them."""

from __future__ import annotations

import re
from pathlib import Path

from rich.text import Text

from docs import make_pictures

MAX_PNG_BYTES = 300_000
_PROGRESS = [f"trial {number:>3}  started" for number in range(30)]
_OUTPUT = "\n".join(
    [
        "\x1b[1mx-1\x1b[0m on simulated devices",
        *_PROGRESS,
        "",
        "x-1: 29 completed, 1 failed",
        "best",
    ]
)


def test_leaves_out_the_middle_and_says_how_much() -> None:
    lines = make_pictures.shortened(Text.from_ansi(_OUTPUT)).plain.splitlines()
    assert lines[:2] == ["$ make quickstart", "x-1 on simulated devices"]
    shown = [line for line in lines if line.startswith("trial")]
    assert f"… {len(_PROGRESS) - len(shown)} more lines" in lines
    assert lines[-2:] == ["x-1: 29 completed, 1 failed", "best"]


def test_draws_text_and_fetches_nothing(tmp_path: Path) -> None:
    make_pictures.draw_terminal(_OUTPUT, tmp_path / "x.svg")
    assert_self_contained(tmp_path / "x.svg")
    assert "29" in (tmp_path / "x.svg").read_text(encoding="utf-8")


def assert_self_contained(picture: Path) -> None:
    text = picture.read_text(encoding="utf-8")
    assert not re.search(r"url\(\W*http|@import|href=", text)


def test_the_terminal_in_the_tree_is_a_whole_run() -> None:
    picture = make_pictures.IMAGES / "quickstart.svg"
    assert_self_contained(picture)
    text = re.sub(r"&#160;|\s+", " ", picture.read_text(encoding="utf-8"))
    for words in ("make quickstart", "simulated engine", "vllm serve", "report.html"):
        assert words in text, words


def test_the_report_in_the_tree_is_a_small_png() -> None:
    data = (make_pictures.IMAGES / "report.png").read_bytes()
    assert data.startswith(b"\x89PNG")
    assert len(data) < MAX_PNG_BYTES
