"""Container images of the engines, in the version that was measured."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePath

from runtimes.errors import UserError
from tracking.export._deployment import Deployment, vendor

OFFICIAL: Mapping[str, str] = {
    "vllm": "vllm/vllm-openai:v{version}",
    "sglang": "lmsysorg/sglang:v{version}",
    "tensorrt_llm": "nvcr.io/nvidia/tensorrt-llm/release:{version}",
}
"""Where each engine's developers publish their images, NVIDIA's GPUs meant."""

CHOOSE = "CHOOSE"
"""Marks a line that its user has to decide on."""

_RELEASE = re.compile(r"(\d+(?:\.\d+)+(?:\.?(?:rc|post)\d+)?)(\+.*)?")


def image_of(deployment: Deployment, asked: str) -> tuple[str, tuple[str, ...]]:
    """The image to run, and what to know of the choice, one sentence each.

    Raises:
        UserError: no image is known, or the devices are none that containers are written for.
    """
    require_nvidia(deployment)
    if asked:
        return asked, ()
    if deployment.image:
        return deployment.image, ("The image is the one it was measured in.",)
    official = OFFICIAL.get(deployment.engine)
    if official is None:
        raise UserError(f"no image of engine {deployment.engine} is known; name one with --image")
    release = _RELEASE.fullmatch(deployment.version)
    if release is None:
        said = deployment.version or "nothing"
        return official.replace("v{version}", "latest").replace("{version}", "latest"), (
            f"{CHOOSE} the image: the engine said {said} of its version, and the newest image is "
            "not what was measured. Name one with --image.",
        )
    notes = ["The image is the official one of the version measured, not where it was measured."]
    if release[2]:
        notes.append(f"Measured was {deployment.version}, a build of its own.")
    return official.format(version=release[1]), tuple(notes)


def require_nvidia(deployment: Deployment) -> None:
    """Refuse devices that a container would have to be given in another way.

    Raises:
        UserError: they are not NVIDIA's.
    """
    made_by = vendor(deployment)
    if made_by not in ("nvidia", ""):
        raise UserError(
            f"trial {deployment.trial} was measured on {deployment.gpu_model}, and this target is "
            "written for NVIDIA's GPUs; use --to command or --to slurm"
        )


def inside(argv: tuple[str, ...]) -> tuple[str, ...]:
    """`argv` as an image has it: the program by its name, whichever folder it was measured in."""
    program = PurePath(argv[0]).name
    return ("python3" if program.startswith("python") else program, *argv[1:])
