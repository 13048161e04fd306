"""Empty modules in the place of libraries that need a GPU, for SGLang and nobody else.

`sglang_cpu_env.py` copies this file into the environment it makes, where every start imports it.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Iterator, Sequence

NAMES = frozenset(
    {
        "av", "decord", "kernels", "quack", "soundfile", "timm", "torchaudio", "torchcodec",
        "torchvision",
    }
)  # fmt: skip


class Anything:
    """Takes any arguments, has any attribute, and holds nothing."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass

    def __getattr__(self, name: str) -> Anything:
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything()

    def __call__(self, *args: object, **kwargs: object) -> Anything:
        return Anything()

    def __iter__(self) -> Iterator[object]:
        return iter(())


class StandIn(types.ModuleType):
    """A package whose every name is a class."""

    def __getattr__(self, name: str) -> type[Anything]:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (Anything,), {})


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds stand-ins where SGLang asks for the libraries."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder.find_spec`."""
        if fullname.partition(".")[0] not in NAMES or not asked_by_sglang():
            return None
        # Looks for the real libraries as it is imported, and must not find these.
        importlib.import_module("transformers").AutoProcessor  # noqa: B018

        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        """See `importlib.abc.Loader.create_module`."""
        return StandIn(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """See `importlib.abc.Loader.exec_module`."""


def asked_by_sglang() -> bool:
    """True when the import at hand stands in one of SGLang's own modules."""
    frame = sys._getframe(1)
    while frame is not None:
        name = str(frame.f_globals.get("__name__", ""))
        if not name.startswith(("importlib", "_frozen_importlib", __name__)):
            return name.startswith("sglang")
        frame = frame.f_back  # type: ignore[assignment]  # None ends the loop
    return False


sys.meta_path.append(Finder())
