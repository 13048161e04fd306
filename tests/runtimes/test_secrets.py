"""Which names are secret, and that masked text shows none of them."""

from __future__ import annotations

import pytest

from runtimes.secrets import (
    MASK,
    is_secret_argument,
    is_secret_name,
    mask,
    mask_credentials,
    secret_values,
)


@pytest.mark.parametrize(
    "name",
    [
        "HF_TOKEN",
        "hf_token",
        "TOKEN",
        "OPENAI_API_KEY",
        "AWS_SECRET",
        "AWS_SECRET_ACCESS_KEY",
        "DB_PASSWORD",
        "PGPASSWD",
        "AZURE_CREDENTIAL",
        "GOOGLE_APPLICATION_CREDENTIALS",
    ],
)
def test_variables_that_hold_secrets(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    ["TOKENIZERS_PARALLELISM", "MAX_TOKENS", "MONKEY", "KEYBOARD", "HF_TOKEN_PATH", "PATH", ""],
)
def test_variables_that_do_not(name: str) -> None:
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "api-key",
        "api_key",
        "--API-Key",
        "admin-api-key",
        "hf-token",
        "hf_token",
        "password",
        "ssl-keyfile-password",
        "client-secret",
    ],
)
def test_arguments_that_take_secrets(name: str) -> None:
    assert is_secret_argument(name)


@pytest.mark.parametrize(
    "name",
    [
        "max-num-batched-tokens",
        "kt-max-deferred-experts-per-token",
        "tokenizer",
        "skip-tokenizer-init",
        "ssl-keyfile",
        "tls-key-path",
        "allow-credentials",
    ],
)
def test_arguments_that_do_not(name: str) -> None:
    assert not is_secret_argument(name)


def test_short_values_are_placeholders() -> None:
    environment = {"HF_TOKEN": "hf_abcdef", "VLLM_API_KEY": "EMPTY", "PATH": "/usr/local/bin"}
    assert secret_values(environment) == ["hf_abcdef"]


def test_every_occurrence_is_masked() -> None:
    text = "token hf_abcdef, again hf_abcdef\nand pa$$word."
    assert mask(text, ["hf_abcdef", "pa$$word"]) == f"token {MASK}, again {MASK}\nand {MASK}."


@pytest.mark.parametrize("secrets", [["secret", "secret-2"], ["secret-2", "secret"]])
def test_a_secret_that_begins_with_another_is_masked_whole(secrets: list[str]) -> None:
    assert mask("of secret-2", secrets) == f"of {MASK}"


def test_an_empty_secret_masks_nothing() -> None:
    assert mask("text", ["", "absent"]) == "text"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("see https://me:pa@ss@host/simple now", f"see https://{MASK}@host/simple now"),
        ("git+https://token@host/a", f"git+https://{MASK}@host/a"),
        ("https://host/a@b and x@y.example", "https://host/a@b and x@y.example"),
    ],
)
def test_credentials_in_addresses_are_masked(text: str, shown: str) -> None:
    assert mask_credentials(text) == shown
