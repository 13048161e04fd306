"""The model's tokenizer and chat template, found in folders and in the Hub's cache."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from runtimes.errors import UserError
from runtimes.tokenizer import chat_template, find_tokenizer, template_sha256
from runtimes.workloads.base import WorkloadContext
from runtimes.workloads.synthetic import SyntheticWorkload
from tests.runtimes.workload_files import tiny_model

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("tokenizer") / "model")


def cached(model: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the model's files into the Hub's cache, as its libraries do."""
    folder = home / "models--owner--tiny"
    (folder / "snapshots" / COMMIT).mkdir(parents=True)
    for path in model.iterdir():
        (folder / "snapshots" / COMMIT / path.name).symlink_to(path)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT, encoding="utf-8")
    monkeypatch.setenv("HF_HUB_CACHE", str(home))


def test_text_comes_back(model: Path) -> None:
    tokenizer = find_tokenizer(str(model))
    assert tokenizer is not None
    ids = tokenizer.encode("the cluster serves a model")
    assert tokenizer.decode(ids) == "the cluster serves a model"
    assert tokenizer.vocabulary["▁the"] == ids[0]
    assert "<s>" not in tokenizer.vocabulary
    assert find_tokenizer(str(model)) is tokenizer


def test_a_hub_id_is_found_in_the_cache(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached(model, tmp_path, monkeypatch)
    for revision in (None, "main", COMMIT):
        assert find_tokenizer("owner/tiny", revision) is not None
    assert find_tokenizer("owner/tiny", "other") is None
    assert find_tokenizer("owner/absent") is None
    assert find_tokenizer("") is None


def test_a_damaged_tokenizer_is_told_with_its_file(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    for content in ("{", '{"model": 5}', "[]"):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(UserError, match=r"tokenizer.json: (cannot be read|is no tokenizer)"):
            find_tokenizer(str(tmp_path))


def test_without_the_library_the_remedy_is_told(model: Path) -> None:
    code = (
        "import sys; sys.modules['tokenizers'] = None\n"
        "from runtimes.errors import MissingToolError\n"
        "from runtimes.tokenizer import find_tokenizer\n"
        "try: find_tokenizer(sys.argv[1])\n"
        "except MissingToolError as error: sys.exit(str(error))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, model], capture_output=True, text=True)
    assert "tokenizer.json: reading a tokenizer needs" in done.stderr
    assert "pip install 'servetune[tokenizer]'" in done.stderr


def test_the_template_is_found_where_transformers_finds_it(tmp_path: Path) -> None:
    assert chat_template(str(tmp_path)) is None
    assert template_sha256(str(tmp_path)) is None
    config = tmp_path / "tokenizer_config.json"
    config.write_text(json.dumps({"chat_template": "a {{ messages }}"}), encoding="utf-8")
    assert chat_template(str(tmp_path)) == "a {{ messages }}"
    assert template_sha256(str(tmp_path)) == hashlib.sha256(b"a {{ messages }}").hexdigest()
    several = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]
    config.write_text(json.dumps({"chat_template": several}), encoding="utf-8")
    assert chat_template(str(tmp_path)) == "d"
    (tmp_path / "chat_template.jinja").write_text("own file", encoding="utf-8")
    assert chat_template(str(tmp_path)) == "own file"
    (tmp_path / "chat_template.jinja").unlink()
    for wrong in ("{", "[]"):
        config.write_text(wrong, encoding="utf-8")
        if wrong == "{":
            with pytest.raises(UserError, match=r"tokenizer_config.json: cannot be read as JSON"):
                chat_template(str(tmp_path))
        else:
            assert chat_template(str(tmp_path)) is None


@pytest.mark.parametrize("kind", ["sentencepiece", "byte-level"])
def test_words_come_back_with_either_way_of_writing_spaces(kind: str, tmp_path: Path) -> None:
    """A tokenizer that writes the first word of a text otherwise than the others."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(unk_token=None))
    if kind == "byte-level":
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
        tokenizer.decoder = decoders.Metaspace(prepend_scheme="never")
    names = [a + b + c for a in "bdfgk" for b in "aeiou" for c in ("n", "st", "rd", "ng", "ck")]
    trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=["<end>"], show_progress=False)
    tokenizer.train_from_iterator([f"{name} {name}\n{name}" for name in names * 5], trainer)
    tokenizer.save(str(tmp_path / "tokenizer.json"))

    context = WorkloadContext(1000, 7, str(tmp_path), None, True)
    made = SyntheticWorkload.from_settings({"input_tokens": 60}, context)
    found = find_tokenizer(str(tmp_path))
    assert found is not None
    starts = set()
    for prompt in made.prompts("0", 50):
        ((role, text),) = prompt.messages
        assert role == "user"
        assert tuple(found.encode(text)) == prompt.token_ids
        assert len(prompt.token_ids) == 60
        starts.add(prompt.token_ids[0])
    assert starts.isdisjoint(found.encode(" ".join(["x", *names]))[1:])


def test_a_chat_needs_the_tokenizer(tmp_path: Path) -> None:
    for model in ("", "owner/absent", str(tmp_path)):
        context = WorkloadContext(1000, 7, model, "v2", True)
        with pytest.raises(ValueError, match=r"^api: needs the model's tokenizer.json, .*hf down"):
            SyntheticWorkload.from_settings({}, context)


def test_a_chat_needs_words(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models

    vocabulary = {f"t{number}": number for number in range(300)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="t0"))
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ValueError, match=r"^api: .* too few that are one token each .* got 0 in"):
        SyntheticWorkload.from_settings({}, WorkloadContext(1000, 7, str(tmp_path), None, True))


def test_special_ids_can_be_left_out(model: Path) -> None:
    context = WorkloadContext(2048, 7, str(model))
    settings = {"input_tokens": 400, "skip_special_ids": True}
    prompts = SyntheticWorkload.from_settings(settings, context).prompts("0", 60)
    ids = {token for prompt in prompts for token in prompt.token_ids}
    assert min(ids) == 3
    assert max(ids) == 2047
    with pytest.raises(ValueError, match=r"^skip_special_ids: needs the model's tokenizer.json"):
        SyntheticWorkload.from_settings(settings, WorkloadContext(2048, 7))
