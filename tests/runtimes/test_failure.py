from __future__ import annotations

import pytest

from runtimes.failure import FailureKind


def test_a_kind_of_former_records_is_read_as_what_the_search_learned_from_it() -> None:
    kind = FailureKind("out_of_memory")
    assert kind is FailureKind.OOM_SERVING
    assert kind.infeasible


def test_an_unknown_kind_is_none_of_ours() -> None:
    with pytest.raises(ValueError, match="no_such_kind"):
        FailureKind("no_such_kind")


@pytest.mark.parametrize("kind", FailureKind)
def test_what_cannot_work_is_not_tried_again(kind: FailureKind) -> None:
    assert not (kind.infeasible and kind.retryable)
