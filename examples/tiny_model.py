"""Make a tiny Llama-shaped model folder on the spot, offline.

    python examples/tiny_model.py OUT_DIR

The folder holds a configuration and a tokenizer but no weights: real engines load it with random
ones (vLLM: `--load-format dummy`). The same folder comes out every time, byte for byte. Every
ordinary token id stands for printable text, so that a stream of random tokens has content in
every chunk, as the stream of a trained model has.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path

VOCAB = 2048
SPECIAL = ("<unk>", "<s>", "</s>")
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "bos_token_id": 1,
    "eos_token_id": 2,
    "head_dim": 32,
    "hidden_act": "silu",
    "hidden_size": 128,
    "initializer_range": 0.02,
    "intermediate_size": 256,
    "max_position_embeddings": 4096,
    "model_type": "llama",
    "num_attention_heads": 4,
    "num_hidden_layers": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "vocab_size": VOCAB,
}
TOKENIZER_CONFIG = {
    "bos_token": "<s>",
    "clean_up_tokenization_spaces": False,
    "eos_token": "</s>",
    "model_max_length": CONFIG["max_position_embeddings"],
    "tokenizer_class": "PreTrainedTokenizerFast",
    "unk_token": "<unk>",
}
GENERATION_CONFIG = {"bos_token_id": 1, "eos_token_id": 2}

_TEXT = """
A cluster serves a model to many people at once. Requests arrive when they please: some carry a
short question, some a whole book. The engine reads each prompt, keeps what it read in a cache of
keys and values, and writes the answer one token at a time. When the cache is full a request waits
or gives its place to another. More sequences in a batch raise the throughput of the accelerator
and lengthen the time between two tokens of every reader. A tuner measures both, for each way of
splitting the layers and the heads, and keeps the configuration that serves the most good requests
on every device. What it cannot measure it does not claim, and what it claims can be run again.
"""
_STARTS = ("b", "c", "d", "f", "g", "h", "k", "l", "m", "n", "p", "r", "s", "t", "tr", "st", "pl")
_VOWELS = ("a", "e", "i", "o", "u", "ai", "ee", "ou")
_ENDS = ("", "n", "r", "s", "t", "ck", "nd", "ng")


def make(folder: Path) -> None:
    """Write the model's files into `folder`, which is made when absent."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_tokenizer(folder / "tokenizer.json")
    _write_json(folder / "config.json", CONFIG)
    _write_json(folder / "tokenizer_config.json", TOKENIZER_CONFIG)
    _write_json(folder / "generation_config.json", GENERATION_CONFIG)


def _write_tokenizer(path: Path) -> None:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(unk_token=SPECIAL[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=list(SPECIAL),
        initial_alphabet=[chr(code) for code in range(33, 127)],
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    if tokenizer.get_vocab_size() != VOCAB:
        raise SystemExit(f"the text gave {tokenizer.get_vocab_size()} tokens instead of {VOCAB}")
    tokenizer.save(str(path))


def _corpus() -> Iterator[str]:
    """Text with enough different words to train the whole vocabulary."""
    yield from _TEXT.strip().splitlines()
    syllables = [start + vowel + end for start in _STARTS for vowel in _VOWELS for end in _ENDS]
    for first, second in zip(syllables, reversed(syllables), strict=True):
        yield f"{first} {first}{second}"


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def main() -> None:
    """Make the folder named on the command line and say where it is."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, metavar="OUT_DIR", help="made when absent")
    folder: Path = parser.parse_args().folder
    make(folder)
    print(folder)


if __name__ == "__main__":
    main()
