"""A virtual environment made of requirements: built once per node and content, then reused."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from uuid import uuid4

from runtimes.environment.build import Report, Tools, building_once
from runtimes.environment.launch import Prepared, environment_failed
from runtimes.environment.path import distributions
from runtimes.errors import EngineError
from runtimes.json_types import Json, short_hash
from runtimes.plan import Environment

_MARKER = ".complete"
"""Written last: a folder without it is torn."""
_TORN = ".torn-"
_VERSION_S = 30.0
_HASH_DIGITS = 20
_PIP = ("-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--progress-bar=off")


async def prepare_venv(
    environment: Environment, *, cache: Path, log: Path, env: Mapping[str, str], report: Report
) -> Prepared:
    """The environment's folder below `cache`, built there if it is not complete.

    It is built where it stays, since a virtual environment cannot be moved. What a killed builder
    left is removed and built anew.

    Raises:
        EngineError: it cannot be built.
    """
    tools = Tools.of(log, env, report)
    base = environment.python or sys.executable
    version = await asyncio.to_thread(_version, base, tools.env)
    key = await asyncio.to_thread(content_hash, environment, base, version)
    folder = cache / "environments" / key
    if not _complete(folder):
        what = f"the environment of {', '.join(environment.requirements)}"
        async with building_once(folder, tools, what) as lock:
            if not _complete(folder):
                await _build(folder, environment, base, tools, lock)
    commands = str(folder / "bin")
    found: list[Json] = [version, *distributions(folder)]
    return Prepared(commands, short_hash(found), path=commands)


def content_hash(environment: Environment, base: str, version: str) -> str:
    """Hash of all that decides what a build installs, the package index aside.

    Local files and folders of wheels count by name, size and time of change.

    Raises:
        EngineError: a folder of wheels is not on this node.
    """
    lines = (*environment.requirements, *environment.overrides)
    content: dict[str, Json] = {
        "requirements": list(environment.requirements),
        "overrides": list(environment.overrides),
        "wheels": [_contents(Path(folder)) for folder in environment.wheels],
        "files": [_facts(path) for line in lines for path in _local_files(line)],
        "python": [os.path.realpath(base), version],
    }
    return short_hash(content, _HASH_DIGITS)


def _version(base: str, env: Mapping[str, str]) -> str:
    if base == sys.executable:
        return sys.version
    try:
        asked = subprocess.run(
            [base, "-I", "-c", "import sys; print(sys.version)"],
            env=dict(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_VERSION_S,
            check=True,
            text=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise environment_failed(
            f"environment.python {base} does not answer: {error}",
            "name an interpreter that every node has, or leave it out to take servetune's own",
        ) from error
    return asked.stdout.strip()


def _contents(folder: Path) -> Json:
    try:
        return [_facts(file) for file in sorted(folder.iterdir())]
    except OSError as error:
        raise environment_failed(
            f"environment.wheels {folder} cannot be read on this node: {error}",
            "put the folder where every node sees it, or correct environment.wheels",
        ) from error


def _facts(path: Path) -> Json:
    stat = path.stat()
    return [path.name, stat.st_size, stat.st_mtime_ns]


def _local_files(line: str) -> Iterator[Path]:
    """The files that a line of a requirements file speaks of (`-r FILE`, `FILE`, `x @ file://…`)."""
    for word in line.replace("=", " ").split():
        path = Path(word.removeprefix("file://").partition("[")[0])
        if path.is_absolute() and path.is_file():
            yield path


def _complete(folder: Path) -> bool:
    # The interpreter is a link, which dangles once the one it was made from is gone.
    return (folder / _MARKER).exists() and (folder / "bin" / "python").exists()


async def _build(
    folder: Path, environment: Environment, base: str, tools: Tools, lock: int
) -> None:
    tools.report(f"building the environment of {', '.join(environment.requirements)}")
    python = str(folder / "bin" / "python")
    links = [f"--find-links={wheels}" for wheels in environment.wheels]
    try:
        _set_aside(folder)
        await asyncio.to_thread(_remove_torn, folder.parent)
        first = _listed(folder / "requirements.txt", environment.requirements)
        last = _listed(folder / "overrides.txt", environment.overrides)
        code, tail = await tools.run([base, "-I", "-m", "venv", str(folder)], lock=lock)
        if code != 0:
            raise _no_venv(base, code, tail)
        code, tail = await tools.run([python, "-I", *_PIP, *links, "-r", first], lock=lock)
        if code == 0 and environment.overrides:
            pip = [python, "-I", *_PIP, *links, "--no-deps", "-r", last]
            code, tail = await tools.run(pip, lock=lock)
        if code != 0:
            raise _no_packages(environment, code, tail)
        (folder / _MARKER).touch()
    except OSError as error:
        raise environment_failed(
            f"{folder} cannot be written: {error}",
            "free space there, or set SERVETUNE_CACHE to another folder of the node",
        ) from error


def _set_aside(folder: Path) -> None:
    """Make room for a new `folder` at once: removing the old one may take longer than a caller."""
    if folder.exists():
        folder.rename(folder.with_name(f"{folder.name}{_TORN}{uuid4().hex}"))
    folder.mkdir()


def _remove_torn(environments: Path) -> None:
    for folder in environments.glob(f"*{_TORN}*"):
        shutil.rmtree(folder, ignore_errors=True)  # another process may be at it


def _listed(path: Path, requirements: Iterable[str]) -> str:
    """A requirements file, in which pip fills in `${NAME}`: so a token stands in no argument."""
    path.write_text("".join(f"{line}\n" for line in requirements))
    return str(path)


def _no_venv(base: str, code: int, tail: str) -> EngineError:
    return environment_failed(
        f"{base} -m venv ended with status {code}: {_reason(tail)}",
        "install Python's venv module there (Debian and Ubuntu: the package python3-venv), or name "
        "another interpreter under environment.python",
        tail,
    )


def _no_packages(environment: Environment, code: int, tail: str) -> EngineError:
    wanted = ", ".join((*environment.requirements, *environment.overrides))
    return environment_failed(
        f"pip could not install {wanted} (status {code}): {_reason(tail)}",
        "correct environment.requirements; where the node reaches no package index, name one by "
        "PIP_INDEX_URL or give a folder of wheels under environment.wheels",
        tail,
    )


def _reason(tail: str) -> str:
    """The first line that is an error; pip's later ones are generic."""
    lines = [line.strip() for line in tail.splitlines() if line.strip()]
    errors = [line.lower() for line in lines]
    found = (line for line, low in zip(lines, errors, strict=True) if low.startswith("error"))
    return next(found, lines[-1] if lines else "it said nothing")
