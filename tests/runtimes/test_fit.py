"""Whether weights fit, with the arithmetic shown."""

from __future__ import annotations

from runtimes.fit import does_not_fit
from runtimes.hardware import find_accelerator
from runtimes.model import find_model
from runtimes.parallel import ParallelLayout


def _verdict(accelerator: str, **layout: int) -> str | None:
    model = find_model("meta-llama/Llama-3.3-70B-Instruct")
    assert model is not None
    return does_not_fit(
        model,
        find_accelerator(accelerator),
        layout=ParallelLayout(**layout),
        memory_fraction=0.92,
    )


def test_70b_does_not_fit_one_h200() -> None:
    assert _verdict("H200") == (
        "weights take 131.4 GiB per GPU at tp=1 pp=1, but 0.92 of an H200's 140.4 GiB is 129.2 GiB"
    )


def test_the_article_follows_the_name() -> None:
    assert "of an L40S's" in str(_verdict("L40S"))
    model = find_model("meta-llama/Llama-3.1-405B")
    assert model is not None
    verdict = does_not_fit(
        model, find_accelerator("B200"), layout=ParallelLayout(), memory_fraction=0.9
    )
    assert "of a B200's" in str(verdict)


def test_tensor_and_pipeline_degrees_share_the_weights_and_replicas_do_not() -> None:
    assert _verdict("H200", tp=2) is None
    assert _verdict("H200", pp=2) is None
    assert _verdict("H200", dp=8) is not None
