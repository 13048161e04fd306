"""What a user says about an artefact or where it goes, checked before anything is written."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path

from runtimes.errors import UserError

MAX_REPLICAS = 10_000
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_IMAGE = re.compile(r"[A-Za-z0-9\[][A-Za-z0-9._:/@\[\]-]*")


def is_address(host: str) -> bool:
    """True for an IP address without a zone."""
    try:
        return "%" not in str(ipaddress.ip_address(host))
    except ValueError:
        return False


def check_host(host: str) -> None:
    """Refuse what is neither an IP address nor a host name.

    Raises:
        UserError: it is neither.
    """
    labels = host.removesuffix(".").split(".")
    named = all(map(_LABEL.fullmatch, labels)) and not labels[-1].isdigit() and len(host) < 254
    if not named and not is_address(host):
        raise UserError(
            f"--host {host!r}: is neither an IP address nor a host name; write 127.0.0.1 for this "
            "machine alone, 0.0.0.0 for every address that it has"
        )


def check_image(image: str) -> None:
    """Refuse what is no name of a container image, as an option of docker's.

    Raises:
        UserError: it is none.
    """
    if not _IMAGE.fullmatch(image):
        raise UserError(
            f"--image {image!r}: is no name of an image; write REPOSITORY:TAG, as "
            "vllm/vllm-openai:v0.33.0"
        )


def check_folder(out: str, folder: Path) -> None:
    """Refuse a folder that is not there: a misspelt one would hide what was written.

    Args:
        out: what the user gave as --out.
        folder: where that lies.

    Raises:
        UserError: there is no such folder, or its name cannot be one.
    """
    try:
        there = folder.is_dir()
    except OSError as error:  # a name that is too long
        raise UserError(f"--out {out}: cannot be written: {error.strerror}") from None
    if not there:
        raise UserError(
            f"--out {out}: there is no folder {folder}; make it first (mkdir -p), or write to "
            "another place"
        )
