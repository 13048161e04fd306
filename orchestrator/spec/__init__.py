"""The experiment file: what may be written, checked once, at the door."""

from orchestrator.spec.experiment import Experiment
from orchestrator.spec.models import ExperimentSpec

__all__ = ["Experiment", "ExperimentSpec"]
