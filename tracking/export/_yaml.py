"""YAML that means the same to every reader: text stays text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import yaml

from runtimes.json_types import Json
from tracking.export._deployment import Deployment
from tracking.export._shell import comments

# Go's and Python's readers disagree on `no`, `1e3`, `0o7` and dates: only plain words go unquoted.
_WORD = re.compile(r"[A-Za-z/][A-Za-z0-9_./-]*(?:[:@][A-Za-z0-9_./-]+)*")
_NO_TEXT = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})


class Block(str):
    """Text that is written as it stands, over several lines."""

    __slots__ = ()


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    plain = _WORD.fullmatch(value) is not None and value.lower() not in _NO_TEXT
    style = None if plain else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


def _block(dumper: yaml.SafeDumper, value: Block) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", str(value), style="|")


_Dumper.add_representer(str, _text)
_Dumper.add_representer(Block, _block)


def documents(
    deployment: Deployment, tops: Iterable[Mapping[str, Json]], notes: Iterable[str] = ()
) -> str:
    """One file of YAML documents behind what to know of the deployment."""
    bodies = [plain(top) for top in tops]
    head = "".join(f"{line}\n" for line in comments(deployment, notes))
    return head + "---\n".join(bodies)


def plain(value: Mapping[str, Json]) -> str:
    """`value` as YAML, its keys in their order."""
    text: str = yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=float("inf")
    )
    return text
