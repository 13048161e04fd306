"""The tokenizer and the chat template of a model, from its folder or from the Hub's cache.

Nothing is downloaded: what is not on this machine is absent. The library `tokenizers` comes with
the extra `tokenizer`; only `tokenizer.json` is read, which nearly every model on the Hub has.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from runtimes._hub_cache import cached_snapshot
from runtimes.errors import MissingToolError, UserError
from runtimes.json_types import Json

if TYPE_CHECKING:
    from tokenizers import Tokenizer as LibraryTokenizer

INSTALL = "pip install 'servetune[tokenizer]'"
_TEMPLATE_ARGUMENTS = frozenset({"chat-template", "hf-chat-template-name"})
"""Of engines, in the spelling with dashes: a template, and one of several that a model has."""


class Tokenizer:
    """Text to token ids and back, as the engines do it: without special tokens.

    Args:
        path: a `tokenizer.json`.

    Raises:
        MissingToolError: the library is not installed.
        UserError: the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        try:
            from tokenizers import Tokenizer as Library
        except ImportError:
            raise MissingToolError(
                f"{path}: reading a tokenizer needs the library tokenizers; {INSTALL}"
            ) from None
        try:
            # Read here: the library's own error for a file it cannot open names no file.
            text = path.read_text(encoding="utf-8")
            json.loads(text)
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: cannot be read as JSON: {error}") from None
        self.path = path
        self._library: LibraryTokenizer = _parsed(Library, text, path)
        # A file may ask for every text to be cut or filled up to one length.
        self._library.no_truncation()
        self._library.no_padding()

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, no special tokens added around it."""
        ids: list[int] = self._library.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: list[int]) -> str:
        """The text that a server would show for `ids`, special tokens left out."""
        text: str = self._library.decode(ids)
        return text

    @property
    def vocabulary(self) -> Mapping[str, int]:
        """Ids by token, special and added ones left out."""
        added = self._library.get_added_tokens_decoder()
        tokens: dict[str, int] = self._library.get_vocab(with_added_tokens=False)
        return {token: index for token, index in tokens.items() if index not in added}


def _parsed(library: type[LibraryTokenizer], text: str, path: Path) -> LibraryTokenizer:
    try:
        return library.from_str(text)
    except Exception as error:
        raise UserError(f"{path}: is no tokenizer that the library reads: {error}") from error


def find_tokenizer(model: str, revision: str | None = None) -> Tokenizer | None:
    """The tokenizer of a model folder, or of a Hub id whose files this machine has cached.

    Raises:
        MissingToolError: it is here, and the library that reads it is not installed.
        UserError: its file cannot be read.
    """
    path = _file(model, revision, "tokenizer.json")
    return None if path is None else _loaded(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=2)
def _loaded(path: Path, changed_ns: int) -> Tokenizer:
    return Tokenizer(path)


def chat_template(model: str, revision: str | None = None) -> str | None:
    """The text of the template that turns messages into a prompt; None when none is here.

    `chat_template.jinja` before the key of `tokenizer_config.json`, as transformers takes them; of
    several named templates the one called `default`.

    Raises:
        UserError: a file is there and cannot be read.
    """
    path = _file(model, revision, "chat_template.jinja")
    if path is not None:
        return _text(path)
    path = _file(model, revision, "tokenizer_config.json")
    if path is None:
        return None
    try:
        config = json.loads(_text(path))
    except ValueError as error:
        raise UserError(f"{path}: cannot be read as JSON: {error}") from None
    template = config.get("chat_template") if isinstance(config, dict) else None
    if isinstance(template, list):
        named = {item.get("name"): item.get("template") for item in template if type(item) is dict}
        template = named.get("default")
    return template if isinstance(template, str) else None


def template_sha256(model: str, revision: str | None = None) -> str | None:
    """SHA-256 of the chat template's text in hexadecimal; None when none is here.

    Raises:
        UserError: a file is there and cannot be read.
    """
    template = chat_template(model, revision)
    return None if template is None else _sha256(template)


def named_template_sha256(args: Mapping[str, Json]) -> str | None:
    """SHA-256 of the chat template that an engine's arguments name instead of the model's own.

    None where they name none; empty where what they name cannot be read here: a path in a
    container, a template that the engine itself knows by name.
    """
    named = {name.replace("_", "-"): value for name, value in args.items() if value is not None}
    if not named.keys() & _TEMPLATE_ARGUMENTS:
        return None
    value = named.get("chat-template")
    path = Path(value) if isinstance(value, str) else None
    if path is None or not path.is_absolute():  # engines run in folders of their own
        return ""
    try:
        return _sha256(_text(path))
    except UserError:
        return ""


def _file(model: str, revision: str | None, name: str) -> Path | None:
    folder = Path(model).expanduser() if model else None
    if folder is None or not folder.is_dir():
        folder = cached_snapshot(model, revision)
    path = None if folder is None else folder / name
    return path if path is not None and path.is_file() else None


def _sha256(template: str) -> str:
    return hashlib.sha256(template.encode()).hexdigest()


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
