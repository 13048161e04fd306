"""Logs of an attempt as they are kept."""

from __future__ import annotations

from pathlib import Path

from orchestrator.engine_log import ENGINE_LOG, ENVIRONMENT_LOG, process_folder, read_all, read_ends


def write(scratch: Path, server: int, node: int, text: str) -> None:
    folder = process_folder(scratch, server, node)
    folder.mkdir()
    (folder / ENGINE_LOG).write_text(text, encoding="utf-8")


def test_of_one_process_it_is_its_own_words(tmp_path: Path) -> None:
    assert read_all(tmp_path) == ""
    write(tmp_path, 0, 0, "all is well\n")
    assert read_all(tmp_path) == "all is well\n"


def test_of_several_each_stands_under_its_name_in_order(tmp_path: Path) -> None:
    for server in (10, 2, 0):
        write(tmp_path, server, 0, f"I am {server}\n")
    write(tmp_path, 2, 1, "")
    assert read_all(tmp_path) == (
        "==> server 0 <==\nI am 0\n\n==> server 2 <==\nI am 2\n\n"
        "==> server 2, node 1 <==\n\n==> server 10 <==\nI am 10\n"
    )


def test_what_building_the_environment_said_comes_first(tmp_path: Path) -> None:
    (tmp_path / ENVIRONMENT_LOG).write_text("no such package\n")
    assert read_all(tmp_path) == "no such package\n"
    write(tmp_path, 0, 0, "up\n")
    assert read_all(tmp_path).startswith("==> environment <==\nno such package\n")


def test_together_they_stay_bounded(tmp_path: Path) -> None:
    for server in range(4):
        write(tmp_path, server, 0, f"line of {server}\n" * 2000)
    text = read_all(tmp_path, limit_bytes=4000)
    assert len(text) < 5000
    assert text.count("bytes left out") == 4
    for server in range(4):
        assert f"==> server {server} <==\nline of {server}\n" in text


def test_an_absent_file_is_empty(tmp_path: Path) -> None:
    assert read_ends(tmp_path / "none") == ""
