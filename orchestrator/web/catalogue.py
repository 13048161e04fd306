"""What names in a request stand for: models and hardware, the server's own first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.spec.refusal import suggestion
from orchestrator.user_facts import accelerator_called
from orchestrator.web.errors import RefusedRequestError, shown
from runtimes.errors import Problem, UnknownNameError
from runtimes.hardware import ACCELERATORS, SYSTEMS, Accelerator, find_system
from runtimes.model import ModelFacts, find_named_model, known_models


@dataclass(frozen=True, slots=True)
class Hardware:
    """What a layout is put on.

    Attributes:
        name: as the request says it.
        accelerator: one chip of it.
        chips: how many there are; None for a single accelerator's name, of which there are as
            many as a layout takes.
    """

    name: str
    accelerator: Accelerator
    chips: int | None = None

    def capacity_bytes(self, used: int) -> int:
        """Memory of the system, or of as many accelerators as are used."""
        return self.accelerator.memory_bytes * (self.chips or used)


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Names of the server's own accelerators and models, and after them the built-in ones."""

    own_hardware: Mapping[str, Accelerator] = field(default_factory=dict)
    own_models: Mapping[str, ModelFacts] = field(default_factory=dict)

    def hardware(self, name: str, path: str) -> Hardware:
        """The hardware called `name`, which stands at `path` of the request.

        Raises:
            RefusedRequestError: there is none.
        """
        system = find_system(name)
        if system is not None and name not in self.own_hardware:
            return Hardware(name, *system)
        try:
            return Hardware(name, accelerator_called(name, self.own_hardware))
        except UnknownNameError:
            ids = (accelerator.id for accelerator in ACCELERATORS.values())
            remedy = suggestion(name, [*self.own_hardware, *ACCELERATORS, *ids, *SYSTEMS])
            problem = Problem(path, "unknown hardware", shown(name), remedy)
            raise RefusedRequestError(problem) from None

    def model(self, name: str, path: str) -> ModelFacts:
        """The model called `name`, which stands at `path` of the request; no file path is opened.

        Raises:
            RefusedRequestError: nothing is known of it.
        """
        found = self.own_models.get(name) or find_named_model(name)
        if found is None:
            remedy = suggestion(name, [*self.own_models, *known_models()])
            raise RefusedRequestError(Problem(path, "unknown model", shown(name), remedy))
        return found
