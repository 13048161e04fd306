"""GGUF headers, read from files written here to the documented format."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import pytest

from runtimes.checkpoint import detect
from runtimes.errors import UserError
from runtimes.gguf import read_gguf, read_header
from runtimes.model import find_model

LLAMA: Mapping[str, object] = {
    "general.architecture": "llama",
    "general.name": "Tiny",
    "general.file_type": 15,
    "llama.block_count": 4,
    "llama.embedding_length": 128,
    "llama.feed_forward_length": 256,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
    "llama.context_length": 4096,
    "llama.rope.freq_base": 10000.0,
    "tokenizer.ggml.tokens": [f"token {number}" for number in range(2048)],
    "tokenizer.ggml.token_type": list(range(2048)),
    "tokenizer.ggml.add_bos_token": True,
}
TENSORS = ("token_embd.weight", "blk.0.attn_q.weight", "output.weight")
WEIGHTS = b"\0" * 4096


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def typed(value: object) -> bytes:
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, str):
        return struct.pack("<I", 8) + text(value)
    assert isinstance(value, list)
    if isinstance(value[0], str):
        return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(text, value))
    return struct.pack("<IIQ", 9, 5, len(value)) + struct.pack(f"<{len(value)}i", *value)


def gguf(
    values: Mapping[str, object] = LLAMA, tensors: tuple[str, ...] = TENSORS, version: int = 3
) -> bytes:
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(values))
    entries = b"".join(text(key) + typed(value) for key, value in values.items())
    infos = b"".join(text(name) + struct.pack("<IQQIQ", 2, 128, 128, 12, 0) for name in tensors)
    return head + entries + infos + WEIGHTS


def test_a_folder_without_a_configuration(tmp_path: Path) -> None:
    path = tmp_path / "tiny-Q4_K_M.gguf"
    path.write_bytes(gguf())
    for model in (tmp_path, path):
        facts = find_model(str(model))
        assert facts is not None
        assert (facts.name, facts.layers, facts.hidden, facts.vocab) == ("Tiny", 4, 128, 2048)
        assert (facts.heads, facts.kv_heads, facts.head_dim) == (4, 2, 32)
        assert (facts.intermediate, facts.max_context, facts.tied) == (256, 4096, False)
        assert facts.quantization is not None
        assert (facts.quantization.method, facts.quantization.weights) == ("gguf", "int4")
        assert facts.weight_bytes == path.stat().st_size
        assert facts.source == str(path)
    found = detect(tmp_path)
    assert found is not None
    assert found.method == "gguf"


def test_a_mixture_with_latent_attention(tmp_path: Path) -> None:
    values = {
        "general.architecture": "deepseek2",
        "deepseek2.block_count": 61,
        "deepseek2.embedding_length": 7168,
        "deepseek2.feed_forward_length": 18432,
        "deepseek2.expert_feed_forward_length": 2048,
        "deepseek2.expert_count": 256,
        "deepseek2.expert_used_count": 8,
        "deepseek2.expert_shared_count": 1,
        "deepseek2.leading_dense_block_count": 3,
        "deepseek2.attention.head_count": 128,
        "deepseek2.attention.head_count_kv": 1,
        "deepseek2.attention.q_lora_rank": 1536,
        "deepseek2.attention.kv_lora_rank": 512,
        "deepseek2.attention.key_length": 576,
        "deepseek2.attention.key_length_mla": 192,
        "deepseek2.attention.value_length_mla": 128,
        "deepseek2.rope.dimension_count": 64,
        "deepseek2.vocab_size": 129280,
    }
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf(values))
    facts = read_gguf(path)
    known = find_model("deepseek-ai/DeepSeek-V3")
    assert known is not None
    assert facts.parameters == known.parameters
    assert facts.mla == known.mla
    assert facts.kv_bytes_per_token() == known.kv_bytes_per_token()
    assert facts.name == "m"


def test_heads_that_differ_between_layers(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf({**LLAMA, "llama.attention.head_count_kv": [1, 2, 1, 2]}))
    assert read_gguf(path).kv_heads == 2


def test_an_output_that_shares_the_embedding(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf(tensors=("token_embd.weight",)))
    assert read_gguf(path).tied


def test_a_model_in_parts(tmp_path: Path) -> None:
    parts = [tmp_path / f"big-{number:05}-of-00002.gguf" for number in (1, 2)]
    parts[0].write_bytes(gguf())
    parts[1].write_bytes(gguf({"split.no": 1}))
    facts = find_model(str(tmp_path))
    assert facts is not None
    assert facts.layers == 4
    assert facts.weight_bytes == sum(part.stat().st_size for part in parts)


def test_several_models_in_one_folder(tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(gguf())
    with pytest.raises(UserError, match=r"several GGUF models \(a.gguf, b.gguf\); name one"):
        find_model(str(tmp_path))
    assert find_model(str(tmp_path / "b.gguf")) is not None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "it does not begin with GGUF"),
        (b"PK\x03\x04 something", "it does not begin with GGUF"),
        (gguf(version=1), "version 1 of the format; 2 and 3 are known"),
        (gguf()[:200], "it ends in the middle of its header"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**60), "it claims 1152921504606846976 entries"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 2**40), "it claims 1099511627776 entries"),
        (
            b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("a") + struct.pack("<I", 99),
            "a value of unknown type 99",
        ),
        (
            b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("a") + struct.pack("<IIQ", 9, 9, 1),
            "an array of type 9",
        ),
        (gguf({"general.name": "x"}), "lacks 'general.architecture'"),
        (gguf({"general.architecture": "llama"}), "lacks 'attention.head_count'"),
    ],
)
def test_a_damaged_file(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(data)
    with pytest.raises(UserError) as caught:
        find_model(str(path))
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_long_arrays_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf())
    header = read_header(path)
    assert header.values["tokenizer.ggml.tokens"] == 2048
    assert header.values["tokenizer.ggml.token_type"] == 2048
    assert header.values["tokenizer.ggml.add_bos_token"] is True
    assert header.tensors == set(TENSORS)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read: No such file"):
        read_header(tmp_path / "absent.gguf")
