"""Shape of a model from the header of its GGUF file, which needs no `config.json`.

The format is documented in ggml's docs/gguf.md: a magic, counts, metadata as typed key-value
pairs, then name, dimensions, type and offset of every tensor, all little-endian.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from runtimes._json_config import Fields
from runtimes._shape import MlaShape, ModelFacts
from runtimes.errors import UserError
from runtimes.quantization import CheckpointQuantization, Precision

_MAGIC = b"GGUF"
_SCALARS = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?",
    10: "<Q", 11: "<q", 12: "<d",
}  # fmt: skip
_TEXT, _ARRAY = 8, 9
_MOST_ENTRIES = 1_000_000
_SHORT = 1000
_LONGEST_TEXT = 64 << 20
_SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")

_FORMATS: Mapping[int, Precision] = {
    0: "bf16", 1: "fp16", 2: "int4", 3: "int4", 7: "int8", 14: "int4", 15: "int4", 32: "bf16",
    38: "mxfp4",
}  # fmt: skip
"""`general.file_type` → format, where one of ours says it (ggml's enum llama_ftype)."""


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """What a GGUF file says before its weights.

    Attributes:
        values: metadata; of a long array, or one of text, only its length.
        tensors: names of the tensors in this file.
    """

    values: Mapping[str, object]
    tensors: frozenset[str]


def gguf_file(path: Path) -> Path | None:
    """The GGUF file that `path` is, or the one that its folder holds; None for anything else.

    Of a model in several parts, the first.

    Raises:
        UserError: the folder holds several models.
    """
    if path.is_file():
        return path if path.suffix == ".gguf" else None
    files = sorted(path.glob("*.gguf"))
    first = [file for file in files if (match := _SHARD.fullmatch(file.name)) is None
             or int(match[2]) == 1]  # fmt: skip
    if len(first) > 1:
        names = ", ".join(file.name for file in first)
        raise UserError(f"{path}: holds several GGUF models ({names}); name one of the files")
    return first[0] if first else None


def read_gguf(path: Path) -> ModelFacts:
    """Facts from the header of the GGUF file at `path`; of several parts, the first.

    Raises:
        UserError: it cannot be read, is damaged, or lacks a field.
    """
    header = read_header(path)
    kind = header.values.get("general.architecture")
    if not isinstance(kind, str):
        raise UserError(f"{path}: lacks 'general.architecture', needed to size the model")
    prefix = f"{kind}."
    own = {
        key.removeprefix(prefix): value
        for key, value in header.values.items()
        if key.startswith(prefix)
    }
    return _facts(path, Fields(f"{path} ({kind})", own, {}), header)


def _facts(path: Path, fields: Fields, header: GgufHeader) -> ModelFacts:
    heads = _heads(fields, "attention.head_count")
    hidden = fields.positive("embedding_length")
    experts = fields.count("expert_count", default=0)
    width = fields.count("expert_feed_forward_length", "feed_forward_length") if experts else 0
    mla = _mla(fields)
    vocab = header.values.get("tokenizer.ggml.tokens")
    kind = header.values.get("general.file_type")
    name = header.values.get("general.name")
    return ModelFacts(
        name=name if isinstance(name, str) and name else path.stem,
        layers=fields.positive("block_count"),
        hidden=hidden,
        heads=heads,
        kv_heads=heads if mla is not None else _heads(fields, "attention.head_count_kv", heads),
        head_dim=fields.positive(
            "attention.key_length_mla", "attention.key_length", default=max(1, hidden // heads)
        ),
        intermediate=fields.count("feed_forward_length", default=0),
        vocab=fields.positive("vocab_size", default=vocab if isinstance(vocab, int) else None),
        max_context=fields.count("context_length", default=0),
        tied="output.weight" not in header.tensors and not _SHARD.fullmatch(path.name),
        experts=experts,
        experts_per_token=fields.positive("expert_used_count") if experts else 0,
        shared_experts=fields.count("expert_shared_count", default=0),
        moe_intermediate=width,
        dense_layers=fields.count("leading_dense_block_count", default=0),
        mla=mla,
        sliding_window=fields.count("attention.sliding_window", default=0),
        quantization=CheckpointQuantization(
            "gguf", _FORMATS.get(kind) if isinstance(kind, int) else None, source=path.name
        ),
        source=str(path),
        checkpoint_bytes=sum(part.stat().st_size for part in _parts(path)),
    )  # fmt: skip


def _heads(fields: Fields, key: str, default: int | None = None) -> int:
    """Heads of a layer; the most where layers differ."""
    each = [count for count in fields.items(key) if isinstance(count, int) and count > 0]
    return max(each) if each else fields.positive(key, default=default)


def _mla(fields: Fields) -> MlaShape | None:
    latent = fields.count("attention.kv_lora_rank", default=0)
    if not latent or fields.values.get("attention.key_length_mla") is None:
        return None
    rope = fields.positive("rope.dimension_count")
    return MlaShape(
        q_lora=fields.count("attention.q_lora_rank", default=0),
        kv_lora=latent,
        nope=fields.positive("attention.key_length_mla") - rope,
        rope=rope,
        value=fields.positive("attention.value_length_mla"),
    )


def _parts(path: Path) -> list[Path]:
    match = _SHARD.fullmatch(path.name)
    if match is None:
        return [path]
    return sorted(path.parent.glob(f"{match[1]}-*-of-{match[3]}.gguf"))


def read_header(path: Path) -> GgufHeader:
    """Metadata and tensor names of a GGUF file.

    Raises:
        UserError: it cannot be read, or is no such file.
    """
    try:
        with path.open("rb") as file:
            return _Reader(file).header()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, struct.error) as error:
        raise UserError(f"{path}: is no GGUF file, or a damaged one: {error}") from None


class _Reader:
    """One pass over a header; every length is checked before it is believed."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def header(self) -> GgufHeader:
        if self._file.read(4) != _MAGIC:
            raise ValueError("it does not begin with GGUF")
        version = self._integer("<I")
        if version not in (2, 3):
            raise ValueError(f"version {version} of the format; 2 and 3 are known")
        tensors, entries = self._size("<Q"), self._size("<Q")
        values = dict(self._entry() for _ in range(entries))
        return GgufHeader(values, frozenset(self._tensor() for _ in range(tensors)))

    def _entry(self) -> tuple[str, object]:
        key = self._text()
        return key, self._value(self._integer("<I"))

    def _value(self, kind: int) -> object:
        if kind == _TEXT:
            return self._text()
        if kind == _ARRAY:
            return self._array()
        if kind not in _SCALARS:
            raise ValueError(f"a value of unknown type {kind}")
        return self._scalar(_SCALARS[kind])

    def _array(self) -> int | list[object]:
        """The length of an array of text; the items of a short one of numbers."""
        kind, length = self._integer("<I"), self._size("<Q")
        if kind == _TEXT:
            for _ in range(length):
                self._file.seek(self._size("<Q", _LONGEST_TEXT), 1)
            return length
        if kind not in _SCALARS:
            raise ValueError(f"an array of type {kind}")
        form = f"<{length}{_SCALARS[kind][1]}"
        if length > _SHORT:
            self._file.seek(struct.calcsize(form), 1)
            return length
        return list(struct.unpack(form, self._read(struct.calcsize(form))))

    def _tensor(self) -> str:
        name = self._text()
        dimensions = self._size("<I", 8)
        self._read(8 * dimensions + 4 + 8)
        return name

    def _text(self) -> str:
        return self._read(self._size("<Q", _LONGEST_TEXT)).decode("utf-8", errors="replace")

    def _size(self, form: str, most: int = _MOST_ENTRIES) -> int:
        size = self._integer(form)
        if size > most:
            raise ValueError(f"it claims {size} entries or bytes where at most {most} make sense")
        return size

    def _integer(self, form: str) -> int:
        value = self._scalar(form)
        assert isinstance(value, int)
        return value

    def _scalar(self, form: str) -> object:
        (value,) = struct.unpack(form, self._read(struct.calcsize(form)))
        return value

    def _read(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) != size:
            raise ValueError("it ends in the middle of its header")
        return data
