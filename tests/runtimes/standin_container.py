"""Stands in for docker and podman: a client and a daemon, whose containers are plain processes.

    standin_container.py daemon STATE      serves until killed
    docker run|pull|image|kill|rm …        the client; STATE comes from STANDIN_STATE

As with the real ones a container is the daemon's child, so killing the client does not end it; it
sees only the variables passed by `--env`, and all its processes end with its first. Every call is
recorded in STATE/calls, a JSON list a line. Images are what STATE/images and STATE/registry list.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from uuid import uuid4

MARK = "STANDIN_CONTAINER"
"""Variable of every process of a container, with the container's id."""


def processes_of(container: str) -> list[int]:
    """Processes of `container`, found by the mark in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and f"{MARK}={container}".encode() in (
                entry / "environ"
            ).read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


def image_id(image: str) -> str:
    """The id that `image inspect` tells."""
    return f"sha256:{hashlib.sha256(image.encode()).hexdigest()}"


class Daemon:
    """Serves one request a connection: create, start, kill, rm."""

    def __init__(self, state: Path) -> None:
        self._folder = state / "containers"
        self._folder.mkdir()
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(state / "socket"))
        self._server.listen(64)

    def serve(self) -> None:
        while True:
            connection, _ = self._server.accept()
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        message, files, _, _ = socket.recv_fds(connection, 1 << 20, 1)
        do, container, *rest = json.loads(message)
        answer = getattr(self, f"_{do}")(container, files, *rest)
        for file in files:
            os.close(file)
        with contextlib.suppress(OSError):  # a client that has died
            connection.sendall(json.dumps(answer).encode())
        connection.close()

    def _create(self, container: str, _files: list[int]) -> str:
        (self._folder / container).touch()
        return container

    def _start(self, container: str, files: list[int], argv: list[str], env: dict[str, str]) -> int:
        try:
            first = subprocess.Popen(
                argv,
                env=env | {MARK: container, "PATH": os.environ["PATH"]},
                stdin=subprocess.DEVNULL,
                stdout=files[0],
                stderr=files[0],
                start_new_session=True,
            )
        except OSError:
            return 127
        (self._folder / container).write_text(str(first.pid))
        code = first.wait()
        self._end(container)
        (self._folder / container).unlink(missing_ok=True)  # as --rm asks
        return code if code >= 0 else 128 - code

    def _kill(self, container: str, _files: list[int], number: int) -> str:
        try:
            first = (self._folder / container).read_text()
        except FileNotFoundError:
            return f"Error response from daemon: No such container: {container}"
        if first:  # a container that was made and not started has no process
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(first), number)
        return ""

    def _rm(self, container: str, _files: list[int]) -> str:
        if not (self._folder / container).exists():
            return f"Error response from daemon: No such container: {container}"
        self._end(container)
        (self._folder / container).unlink(missing_ok=True)
        return ""

    @staticmethod
    def _end(container: str) -> None:
        while pids := processes_of(container):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)


class Client:
    """One call of the program."""

    def __init__(self, state: Path, arguments: list[str]) -> None:
        self._state = state
        self._arguments = arguments

    def main(self) -> int:
        with (self._state / "calls").open("a") as calls:
            calls.write(json.dumps([Path(sys.argv[0]).name, *self._arguments]) + "\n")
        return int(getattr(self, self._arguments[0])())

    def image(self) -> int:
        known = (self._state / "images").read_text().split()
        if self._arguments[-1] not in known:
            return self._refuse(f"No such image: {self._arguments[-1]}")
        os.write(1, f"{image_id(self._arguments[-1])}\n".encode())
        return 0

    def pull(self) -> int:
        image = self._arguments[-1]
        if image not in (self._state / "registry").read_text().split():
            return self._refuse(f"manifest for {image} not found")
        with (self._state / "images").open("a") as images:
            images.write(f"{image}\n")
        return 0

    def run(self) -> int:
        end = next(i for i, part in enumerate(self._arguments[1:], 1) if part[0] != "-")
        options, rest = self._arguments[1:end], self._arguments[end + 1 :]
        given = [option.removeprefix("--env=") for option in options if "--env=" in option]
        env = {name: os.environ[name] for name in given if name in os.environ}
        entry = [part.removeprefix("--entrypoint=") for part in options if "--entrypoint" in part]
        id_file = next(part.partition("=")[2] for part in options if "--cidfile" in part)
        container = uuid4().hex
        self._ask("create", container)
        with Path(id_file).open("x") as file:
            file.write(container)
        signal.signal(signal.SIGTERM, lambda *_: self._ask("kill", container, int(signal.SIGTERM)))
        return int(str(self._ask("start", container, [*entry, *rest], env)))

    def kill(self) -> int:
        return self._done(self._ask("kill", self._arguments[-1], int(signal.SIGKILL)))

    def rm(self) -> int:
        return self._done(self._ask("rm", self._arguments[-1]))

    def _done(self, refusal: object) -> int:
        return self._refuse(str(refusal)) if refusal else 0

    @staticmethod
    def _refuse(words: str) -> int:
        os.write(2, f"{words}\n".encode())
        return 1

    def _ask(self, *request: object) -> object:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self._state / "socket"))
            socket.send_fds(connection, [json.dumps(request).encode()], [1])
            connection.shutdown(socket.SHUT_WR)
            answer = b""
            while part := connection.recv(1 << 16):
                answer += part
        return json.loads(answer)


if __name__ == "__main__":
    if sys.argv[1] == "daemon":
        Daemon(Path(sys.argv[2])).serve()
    sys.exit(Client(Path(os.environ["STANDIN_STATE"]), sys.argv[1:]).main())
