"""Ends a container by its id. A script, run by path; standard library only.

    python -I -S end_container.py PROGRAM FILE

FILE is what PROGRAM (docker, podman) wrote by `--cidfile`. Killing the client that started a
container leaves the container running, so the guard runs this once the client is gone. FILE is
removed when the container is known to be gone, so that whoever comes second has nothing to do.

Exit status: 0 when the container is gone, or when FILE names none; 1 when it is still there after
`ATTEMPTS_S`, with a line on standard error that says what to do.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

ATTEMPTS_S = 25.0
"""How long a program that refuses or hangs is asked again."""

_CALL_S = 10.0
_PAUSE_S = 0.2


def end_container(program: str, id_file: Path, attempts_s: float = ATTEMPTS_S) -> bool:
    """Kill and remove the container whose id is in `id_file`; True when it is gone."""
    try:
        container = id_file.read_text().strip()
    except OSError:
        return True
    # A client that died while it wrote the id had not started the container yet.
    if not container:
        return True
    deadline_s = time.monotonic() + attempts_s
    said = ""
    while time.monotonic() < deadline_s:
        _call(program, "kill", container)  # podman's `rm -f` waits for an orderly end first
        code, said = _call(program, "rm", "-f", container)
        if code == 0 or "no such container" in said.lower():
            id_file.unlink(missing_ok=True)
            return True
        time.sleep(_PAUSE_S)
    _say(
        f"{program} could not remove container {container}: {said.strip()[-300:]}; "
        f"run `{program} rm -f {container}`"
    )
    return False


def _call(*command: str) -> tuple[int, str]:
    """Exit status and output of `command`; a hung or missing program has failed."""
    try:
        ended = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_CALL_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return 1, f"no answer within {_CALL_S:g} s"
    except OSError as error:
        return 1, str(error)
    return ended.returncode, ended.stdout.decode(errors="replace")


def _say(message: str) -> None:
    os.write(2, f"servetune guard: {message}\n".encode())


if __name__ == "__main__":
    sys.exit(0 if end_container(sys.argv[1], Path(sys.argv[2])) else 1)
