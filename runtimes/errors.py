"""Everything servetune raises on purpose.

ServetuneError
├── UserError                 wrong input or a missing tool: exit code 2, no traceback
│   ├── UnknownNameError      a name no registry knows
│   ├── SpecError             an experiment file with problems, all of them at once
│   ├── RunFolderError        a run folder that is locked, torn, newer than us, or absent
│   ├── MissingToolError      a program or an extra that has to be installed first
│   └── ClusterError          no cluster, or none that can host the study
├── EngineError               a trial's engine failed; carries a Failure, becomes an outcome
└── InternalError             an invariant of ours is broken: a bug, shown with its traceback
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runtimes.failure import Failure


class ServetuneError(Exception):
    """Root of the tree; never raised itself."""


class UserError(ServetuneError):
    """Something the user can put right. The message says what, where, the value and the remedy."""


class UnknownNameError(UserError):
    """A name that no registry entry has; the message lists the known ones."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in an experiment file.

    Attributes:
        path: where, as `engines.vllm.search.max-num-seqs`; empty for the whole file.
        message: the rule that is broken.
        value: what stood there, as `repr`; None when nothing stood there.
        remedy: what to write instead.
    """

    path: str
    message: str
    value: str | None = None
    remedy: str = ""

    def __str__(self) -> str:
        where = self.path or "(file)"
        shown = f" (got {self.value})" if self.value is not None else ""
        remedy = f"\n      {self.remedy}" if self.remedy else ""
        return f"{where}: {self.message}{shown}{remedy}"


class SpecError(UserError):
    """An experiment file that cannot be run, with every problem found in it."""

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        self.source = source
        self.problems = tuple(problems)
        count = len(self.problems)
        head = f"{source}: {count} problem{'s' if count != 1 else ''}"
        super().__init__("\n".join([head, *(f"  - {problem}" for problem in self.problems)]))


class RunFolderError(UserError):
    """A run folder cannot be used as asked."""


class MissingToolError(UserError):
    """A program or an optional dependency is not installed."""


class ClusterError(UserError):
    """No cluster answers, or none can host the study."""


class EngineError(ServetuneError):
    """A trial's engine failed. Caught where the trial runs and recorded as its outcome."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure
        super().__init__(failure.message)


class InternalError(ServetuneError):
    """An invariant of servetune itself does not hold."""
