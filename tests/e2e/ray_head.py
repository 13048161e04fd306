"""A Ray head of its own for a test: own ports, own folder, ended by its own pid."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.e2e import studies
from tests.runtimes.free_ports import free_ports

RAY = Path(sys.executable).with_name("ray")


@dataclass(frozen=True)
class Head:
    """A running head.

    Attributes:
        address: of its GCS, host:port.
        dashboard: URL jobs are submitted to.
        env: variables its clients need.
    """

    address: str
    dashboard: str
    env: Mapping[str, str]


@contextmanager
def ray_head(*, gpus: int, options: tuple[str, ...] = (), **extra: str) -> Iterator[Head]:
    """Start a head with `gpus` pretended GPUs; leaving the block ends everything it started.

    `options` are further ones of `ray start`, `extra` variables of its environment.
    """
    with studies.ray_folder() as folder:
        gcs, dashboard, client, agent, agent_grpc = free_ports(5)
        env = studies.environment(
            HOME=str(folder),
            PATH=f"{RAY.parent}{os.pathsep}{os.environ['PATH']}",
            RAY_USAGE_STATS_ENABLED="0",
            RAY_AUTH_MODE="disabled",
            **extra,
        )
        argv = [
            *(str(RAY), "start", "--head", "--block", "--num-cpus=4", f"--num-gpus={gpus}"),
            *(f"--port={gcs}", f"--dashboard-port={dashboard}"),
            *(f"--ray-client-server-port={client}", f"--temp-dir={folder / 'r'}"),
            *("--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1"),
            # Fixed by default, so that another Ray of this machine would have them already.
            *(
                f"--dashboard-agent-listen-port={agent}",
                f"--dashboard-agent-grpc-port={agent_grpc}",
            ),
            *options,
        ]
        with (folder / "head.log").open("w") as log:
            process = subprocess.Popen(
                argv, env=env, stdout=log, stderr=log, start_new_session=True, cwd=folder
            )
        try:
            url = f"http://127.0.0.1:{dashboard}"
            studies.wait_for(lambda: answers(f"{url}/api/version"), "Ray's dashboard", 90)
            yield Head(f"127.0.0.1:{gcs}", url, env)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
