"""How one model is spread over GPUs, in words that no engine owns."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class ParallelLayout:
    """Degrees of parallelism of one deployment.

    Attributes:
        tp: tensor parallel degree: GPUs that share each layer.
        pp: pipeline parallel degree: consecutive groups of layers.
        dp: data parallel degree: whole replicas behind one server.
    """

    tp: int = 1
    pp: int = 1
    dp: int = 1

    def __post_init__(self) -> None:
        for name in ("tp", "pp", "dp"):
            degree = getattr(self, name)
            if degree < 1:
                raise ValueError(f"{name} must be at least 1, got {degree}")

    @property
    def gpus(self) -> int:
        """GPUs of the whole deployment: tp · pp · dp (vLLM 0.33 `config/parallel.py`)."""
        return self.tp * self.pp * self.dp

    def __str__(self) -> str:
        return f"tp{self.tp} pp{self.pp} dp{self.dp}"
