"""The way in: any number of questions, answered at once."""

from __future__ import annotations

from collections.abc import Sequence

from runtimes.node_curves import NodeCurves
from search.perfmodel.answer import Prediction
from search.perfmodel.question import Question


def predict(
    questions: Sequence[Question], *, curves: Sequence[NodeCurves] = ()
) -> list[Prediction]:
    """Answers in the order of `questions`.

    Args:
        curves: a node's own measurements; they replace the built-in ones of its accelerator.
    """
    raise NotImplementedError
