"""How one model is spread over GPUs, in words that no engine owns."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True, order=True)
class ParallelLayout:
    """Degrees of parallelism of one deployment; 1 is "not used", None is "the engine decides".

    What a layout costs in GPUs differs between engines and is each engine's to say
    (`Engine.gpus`): decode context parallelism is free in vLLM, for one.

    Attributes:
        tp: tensor parallel: GPUs that share each layer.
        pp: pipeline parallel: consecutive groups of layers.
        dp: data parallel: whole replicas of the model that share nothing.
        ep: expert parallel: ranks that hold different experts; 1 shards each expert instead.
        dcp: decode context parallel: ranks among which the KV cache of one sequence is split.
        pcp: prefill context parallel: ranks among which one prompt is split.
        cp: context parallel, where an engine does not tell prefill and decode apart.
        attention_dp: groups within the tensor parallel ranks that attend to requests of their
            own while the experts stay spread over all of them; takes no GPUs beyond `tp`.
        moe_tp: ranks that share each expert.
        moe_ep: ranks that hold different experts; another word for `ep`.
        moe_dense_tp: tensor parallel degree of the dense MLPs of a mixture of experts.
        moe_cluster: groups of ranks with experts of their own (TensorRT-LLM).
    """

    tp: int = 1
    pp: int = 1
    dp: int = 1
    ep: int = 1
    dcp: int = 1
    pcp: int = 1
    cp: int = 1
    attention_dp: int = 1
    moe_tp: int | None = None
    moe_ep: int | None = None
    moe_dense_tp: int | None = None
    moe_cluster: int = 1

    def __post_init__(self) -> None:
        for name in DEGREES:
            degree = getattr(self, name)
            if degree is not None and degree < 1:
                raise ValueError(f"{name} must be at least 1, got {degree}")

    @property
    def experts_over(self) -> int:
        """Ranks that hold different experts, by whichever of `ep` and `moe_ep` says so.

        Raises:
            ValueError: both say so, and differently.
        """
        if self.moe_ep is None or self.moe_ep == self.ep:
            return self.ep
        if self.ep != 1:
            raise ValueError(f"ep={self.ep} and moe_ep={self.moe_ep} name one thing; give one")
        return self.moe_ep

    def __str__(self) -> str:
        """The degrees in use (`tp8 ep8`), or `tp1`."""
        used = [f"{name}{value}" for name, value in self.used.items()]
        return " ".join(used) or "tp1"

    @property
    def used(self) -> dict[str, int]:
        """Degrees that say something: neither 1 nor left to the engine."""
        degrees = {name: getattr(self, name) for name in DEGREES}
        return {name: degree for name, degree in degrees.items() if degree not in (1, None)}


DEGREES = tuple(field.name for field in fields(ParallelLayout))
"""Names of all degrees, in declared order."""
