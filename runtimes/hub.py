"""The commit that a Hub revision stands for, asked once, and whether its files may be had.

The Hub's answers for gated, private and missing repositories are told apart by huggingface_hub,
which also finds the user's token (HF_TOKEN, or the one `hf auth login` stored).
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from runtimes._hub_cache import COMMIT, cached_commit, is_hub_id
from runtimes.errors import UserError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_logger = logging.getLogger(__name__)

_TIMEOUT_S = 15.0
_DEFAULT_ENDPOINT = "https://huggingface.co"
_TRUE = frozenset({"1", "true", "yes", "on"})
_TOKEN_REMEDY = "export HF_TOKEN=… where servetune runs, or log in with `hf auth login`"


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a revision stands for.

    Attributes:
        commit: 40 hexadecimal digits; None when nobody could say.
        source: who said so: the Hub, the cache of this machine, the revision itself; `unknown`
            without a commit.
    """

    commit: str | None
    source: Literal["hub", "cache", "given", "unknown"]


def is_offline() -> bool:
    """Whether the environment forbids asking the Hub."""
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    return any(os.environ.get(name, "").strip().lower() in _TRUE for name in names)


def resolve(
    model: str, revision: str | None, *, offline: bool = False, token: str | None = None
) -> Resolved:
    """The commit of `revision` of a Hub model, checked to be there and open to this user.

    Asks the Hub (HF_ENDPOINT, or huggingface.co) with the user's token. Offline, or when it does
    not answer, the commit that this machine has cached; without one a warning is logged.

    Args:
        model: Hub id.
        revision: branch, tag or commit; the default branch without.
        offline: ask nobody, as with HF_HUB_OFFLINE.
        token: the user's token; the one of this environment without.

    Raises:
        UserError: there is no such repository or revision, or it is not open to this user.
    """
    if not is_hub_id(model):
        raise UserError(f"model {model!r}: is neither a folder here nor a Hub id (`owner/name`)")
    if offline or is_offline():
        return _from_cache(model, revision, "asking the Hub is forbidden (offline)")
    return _from_hub(model, revision, token)


def _from_cache(model: str, revision: str | None, why: str) -> Resolved:
    if revision is not None and COMMIT.fullmatch(revision):
        return Resolved(revision, "given")
    commit = cached_commit(model, revision)
    if commit is not None:
        return Resolved(commit, "cache")
    _logger.warning(
        "model %s: %s, and no snapshot of it is cached here; %s may come to mean other weights "
        "while the study runs",
        model,
        why,
        f"its revision {revision}" if revision else "its default branch",
    )
    return Resolved(None, "unknown")


def _from_hub(model: str, revision: str | None, token: str | None) -> Resolved:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or _DEFAULT_ENDPOINT
    api = HfApi(endpoint=endpoint, token=token)
    try:
        info = api.model_info(model, revision=revision, timeout=_TIMEOUT_S)
        if info.gated:
            _check_access(api, model, info.sha or "main")
    except GatedRepoError:
        raise UserError(
            f"model {model}: is gated, and this user may not read it. Ask for access at "
            f"{endpoint}/{model}, then {_TOKEN_REMEDY}"
        ) from None
    except RepositoryNotFoundError:
        raise UserError(
            f"model {model}: {endpoint} has no such repository, or it is private. "
            f"Check the spelling; for a private one {_TOKEN_REMEDY}"
        ) from None
    except RevisionNotFoundError:
        raise UserError(
            f"model.revision {revision!r}: {endpoint}/{model} has no such branch, tag or commit; "
            "leave it out for the default branch"
        ) from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise UserError(
                f"model {model}: {endpoint} refuses the token (HTTP {status}); {_TOKEN_REMEDY}"
            ) from None
        return _from_cache(model, revision, f"{endpoint} answers with HTTP {status}")
    except _connection_errors() as error:
        return _from_cache(model, revision, f"{endpoint} cannot be reached ({error})")
    if info.sha is None or not COMMIT.fullmatch(info.sha):
        return _from_cache(model, revision, f"{endpoint} names no commit of it")
    return Resolved(info.sha, "hub")


def _connection_errors() -> tuple[type[Exception], ...]:
    """What is raised when nobody answers, or nonsense: the HTTP library's own errors among it."""
    from huggingface_hub import errors

    base = errors.HfHubHTTPError.__mro__[1]
    assert issubclass(base, Exception)
    return base, OSError, ValueError


def _check_access(api: HfApi, model: str, commit: str) -> None:
    """Ask for a file of a gated repository: its description is open to all, its files are not."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError

    url = hf_hub_url(model, "config.json", revision=commit, endpoint=api.endpoint)
    try:
        api.get_hf_file_metadata(url=url, timeout=_TIMEOUT_S)
    except EntryNotFoundError:
        return  # a repository without that file, of GGUF weights for one, has answered all the same
