"""Small files of every kind that workloads read, and a model folder with a tokenizer."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from runtimes.json_types import Json

_TINY_MODEL = Path(__file__).parents[2] / "examples" / "tiny_model.py"


def tiny_model(folder: Path) -> Path:
    """A model folder with a tokenizer of 2,048 tokens."""
    subprocess.run([sys.executable, _TINY_MODEL, folder], check=True, capture_output=True)
    return folder


def length_file(folder: Path, rows: Sequence[tuple[int, int]]) -> Path:
    return _packed(
        folder / "lengths.csv.gz",
        ["input_length,output_length", *(f"{given},{asked}" for given, asked in rows)],
    )


def azure_file(folder: Path, rows: Sequence[tuple[str, int, int]]) -> Path:
    lines = ["TIMESTAMP,ContextTokens,GeneratedTokens"]
    return _plain(folder / "azure.csv", [*lines, *(f"{a},{b},{c}" for a, b, c in rows)])


def burstgpt_file(folder: Path, rows: Sequence[tuple[float, int, int]]) -> Path:
    lines = ["Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type"]
    for at_s, given, asked in rows:
        lines.append(f"{at_s:g},GPT-4,{given},{asked},{given + asked},Conversation log")
    return _plain(folder / "burstgpt.csv", lines)


def mooncake_file(folder: Path, rows: Sequence[tuple[int, int, int, list[int]]]) -> Path:
    keys = ("timestamp", "input_length", "output_length", "hash_ids")
    lines = [json.dumps(dict(zip(keys, row, strict=True))) for row in rows]
    return _packed(folder / "mooncake.jsonl.gz", lines)


def text_file(folder: Path, conversations: Sequence[Sequence[tuple[str, str]]]) -> Path:
    entries: list[Mapping[str, Json]] = [
        {"id": str(number), "conversations": [{"from": who, "value": what} for who, what in said]}
        for number, said in enumerate(conversations)
    ]
    path = folder / "sharegpt.json"
    path.write_text(json.dumps(entries), encoding="utf-8")
    return path


TALKS = [
    [("human", "how does a cache work"), ("gpt", "it keeps what it read in a table of keys")],
    [
        ("system", "be brief"),
        ("human", "Name the device."),
        ("gpt", "the accelerator"),
        ("human", "and the engine?"),
        ("gpt", "one token at a time"),
    ],
    [("gpt", "hello"), ("human", "split the layers and the heads"), ("gpt", "into two parts")],
    [("human", "no answer came")],
]
"""Four conversations, the last of which has no answer."""


def _plain(path: Path, lines: Sequence[str]) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _packed(path: Path, lines: Sequence[str]) -> Path:
    path.write_bytes(gzip.compress(("\n".join(lines) + "\n").encode(), mtime=0))
    return path
