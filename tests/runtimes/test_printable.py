"""What an engine says reaches no terminal as a command."""

from __future__ import annotations

from runtimes.classify import classify


def test_what_an_engine_says_holds_no_terminal_escapes() -> None:
    log = "\x1b[31mstarting\x1b[0m\n\x1b[1mRuntimeError: boom \x1b[2J\x1b]52;c;YQ==\x07\u202eend\n"
    failure = classify(log, exit_code=1, phase="serve")
    assert failure.message == "RuntimeError: boom end"
    assert failure.log_tail == "starting\nRuntimeError: boom end"
