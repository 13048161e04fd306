"""A container image, run by docker or podman with exactly the given GPUs.

The container shares the node's network and shared memory, and sees, under their own paths, the
local model, the Hub's cache, the compile caches and the process's files: so a planned command
means the same inside and outside. The image's own entry point is replaced by that command.
"""

from __future__ import annotations

import asyncio
import csv
import io
import re
import shutil
import subprocess
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from runtimes.environment.build import Report, Tools, building_once
from runtimes.environment.launch import Launch, Prepared, environment_failed
from runtimes.json_types import short_hash
from runtimes.plan import Environment
from runtimes.supervisor import ContainerRef

LABEL = "servetune"
"""Stands on every container of ours: `docker ps --filter label=servetune` lists them."""

_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
_PASSED_ON = frozenset(
    {
        *_PROXIES,
        *map(str.upper, _PROXIES),
        "HF_TOKEN",
        "HF_ENDPOINT",
        "HF_HUB_OFFLINE",
        "HF_HUB_CACHE",
    }
)
# Inside, devices are numbered from 0: the node's numbers would name others, or none.
_KEPT_OUT = frozenset({"CUDA_VISIBLE_DEVICES"})
_CACHE_VARIABLE = re.compile(r"(^|_)CACHE(_|$)|^HF_HOME$|_WORKSPACE_BASE$")
_INSPECT_S = 30.0


async def prepare_image(
    environment: Environment, *, cache: Path, log: Path, env: Mapping[str, str], report: Report
) -> Prepared:
    """The image of `environment`, pulled if the node has not got it.

    Raises:
        EngineError: there is no such container program here, or no such image.
    """
    image = environment.image or ""
    tools = Tools.of(log, env, report)
    program = shutil.which(environment.container, path=tools.env.get("PATH"))
    if program is None:
        raise environment_failed(
            f"{environment.container} is not on this node's PATH, and image {image} needs it",
            "install it on every node, or write environment.container: docker or podman",
        )
    found = await asyncio.to_thread(_image_id, program, image, tools.env)
    if found is None:
        target = cache / "environments" / f"image-{short_hash([program, image])}"
        async with building_once(target, tools, f"image {image}") as lock:
            found = await _pulled(program, image, tools, lock)
    return ImagePrepared(None, short_hash([found]), program=program, image=found)


@dataclass(frozen=True, slots=True)
class ImagePrepared(Prepared):
    """An image that the node has.

    Attributes:
        program: path of the container program.
        image: the image's id, so that a tag that moves meanwhile changes nothing.
    """

    program: str = ""
    image: str = ""

    def launch(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        *,
        devices: Sequence[str] | None,
        files: Path,
        model: str,
        names: Collection[str] = (),
    ) -> Launch:
        """The client's command: values of variables stand in its environment, not in its argv."""
        id_file = files / f"container-{uuid4().hex}.id"
        hub = _hub_cache(env)
        seen = {
            name: env[name] for name in sorted({*names, *_PASSED_ON} - _KEPT_OUT) if name in env
        }
        seen["HF_HOME"] = str(hub)
        writable = list(dict.fromkeys([hub, *_caches(seen)]))
        for folder in (files, *writable):
            _make(folder)
        command = [self.program, "run", "--rm", "--pull=never", f"--label={LABEL}"]
        command += [f"--cidfile={id_file}", "--network=host", "--ipc=host"]
        command += _privileges(self.program, devices)
        command += [_mount(folder) for folder in writable]
        command += [_mount(path, read_only=True) for path in _read_only(files, model, writable)]
        command += [f"--env={name}" for name in seen]
        command += [f"--entrypoint={argv[0]}", self.image, *argv[1:]]
        return Launch(tuple(command), {**env, **seen}, ContainerRef(self.program, id_file))


def _image_id(program: str, image: str, env: Mapping[str, str]) -> str | None:
    """The id of `image` if this node has it."""
    try:
        asked = subprocess.run(
            [program, "image", "inspect", "--format", "{{.Id}}", image],
            env=dict(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_INSPECT_S,
            check=False,
            text=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise environment_failed(
            f"{program} does not answer: {error}", f"see what `{program} info` says on the node"
        ) from error
    return asked.stdout.strip() if asked.returncode == 0 else None


async def _pulled(program: str, image: str, tools: Tools, lock: int) -> str:
    found = await asyncio.to_thread(_image_id, program, image, tools.env)
    if found is not None:
        return found
    tools.report(f"pulling image {image}")
    code, tail = await tools.run([program, "pull", image], lock=lock)
    found = await asyncio.to_thread(_image_id, program, image, tools.env) if code == 0 else None
    if found is None:
        reason = next(reversed(tail.splitlines()), "it said nothing")
        raise environment_failed(
            f"{program} pull {image} ended with status {code}: {reason}",
            f"correct environment.image, or see what `{program} pull {image}` says on the node",
            tail,
        )
    return found


def _hub_cache(env: Mapping[str, str]) -> Path:
    """Where the Hub's libraries keep models on this node."""
    if env.get("HF_HOME"):
        return Path(env["HF_HOME"]).expanduser().absolute()
    base = env.get("XDG_CACHE_HOME") or Path(env.get("HOME") or Path.home()) / ".cache"
    return Path(base) / "huggingface"


def _caches(variables: Mapping[str, str]) -> list[Path]:
    """The folders that cache variables name."""
    named = [Path(value) for name, value in variables.items() if _CACHE_VARIABLE.search(name)]
    return [folder for folder in named if folder.is_absolute()]


def _make(folder: Path) -> None:
    """A program would make a missing folder as root, or refuse to start."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise environment_failed(
            f"{folder}, which the container shares, cannot be made: {error}",
            "name a folder that can be written by HF_HOME or the cache variable it comes from",
        ) from error


def _read_only(files: Path, model: str, writable: Sequence[Path]) -> list[Path]:
    path = Path(model)
    if not path.is_absolute() or any(path.is_relative_to(folder) for folder in writable):
        return [files]
    return [files, path]


def _privileges(program: str, devices: Sequence[str] | None) -> list[str]:
    """GPUs and limits, which the two programs ask for differently."""
    ids = devices or ()
    if Path(program).name == "podman":
        # Labels of SELinux keep a container from devices and folders of the node.
        gpus = [f"--device=nvidia.com/gpu={device}" for device in ids]
        return ["--security-opt=label=disable", *gpus]
    limits = ["--ulimit=memlock=-1", "--ulimit=stack=67108864"]
    # Quoted, since a comma begins another field of the value.
    return [*limits, f'--gpus="device={",".join(ids)}"'] if ids else limits


def _mount(path: Path, *, read_only: bool = False) -> str:
    """Bind `path` to the same path inside; the value is a line of comma-separated fields."""
    fields = ["type=bind", f"src={path}", f"dst={path}"]
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow([*fields, *["readonly=true"] * read_only])
    return f"--mount={line.getvalue()}"
