from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from runtimes.model import find_model

SCRIPT = Path(__file__).parents[2] / "examples" / "tiny_model.py"


def make(folder: Path) -> dict[str, bytes]:
    subprocess.run([sys.executable, SCRIPT, folder], check=True, capture_output=True)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny") / "model"
    make(path)
    return path


def test_the_same_files_every_time(folder: Path, tmp_path: Path) -> None:
    assert make(tmp_path / "a" / "b") == {path.name: path.read_bytes() for path in folder.iterdir()}


def test_our_own_reader_knows_its_shape(folder: Path) -> None:
    facts = find_model(str(folder))
    assert facts is not None
    assert (facts.layers, facts.hidden, facts.heads, facts.kv_heads) == (4, 128, 4, 2)
    assert (facts.vocab, facts.max_context) == (2048, 4096)


def test_every_ordinary_token_has_text_of_its_own(folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == 2048
    first = "A"
    lead = tokenizer.encode(first).ids
    special = {"<unk>", "<s>", "</s>"}
    for token in range(2048):
        if tokenizer.id_to_token(token) not in special:
            assert len(tokenizer.decode([*lead, token])) > len(first), token


def test_special_tokens_agree_between_the_files(folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    for name in ("bos_token", "eos_token"):
        assert tokenizer.token_to_id(settings[name]) == config[f"{name}_id"]
