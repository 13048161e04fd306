"""What SGLang's rules look at: one configuration with what is known of model and hardware."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

from runtimes.engines._sglang_effective import SPANNING_BACKENDS
from runtimes.engines._sglang_settings import Settings, settings_of
from runtimes.engines.base import Refusal
from runtimes.hardware import Accelerator
from runtimes.model import ModelFacts
from runtimes.parallel import ParallelLayout
from runtimes.plan import EngineConfig

_SIZED_PAGES = {
    "flashmla": (64,),
    "hpc_ops": (64,),
    "trtllm_mla": (32, 64),
    "cutedsl_mla": (32, 64),
    "trtllm_mha": (16, 32, 64, 128),
}
_FORCED_PAGE = 64


@dataclass(frozen=True, slots=True)
class Case:
    """One configuration; `model` and `accelerator` are None when unknown.

    The degrees are those that SGLang arrives at, arguments of the user's included.
    """

    config: EngineConfig
    settings: Settings
    model: ModelFacts | None
    accelerator: Accelerator | None

    @classmethod
    def of(
        cls, config: EngineConfig, model: ModelFacts | None, accelerator: Accelerator | None
    ) -> Case:
        """The case of `config`."""
        return cls(config, settings_of(config), model, accelerator)

    @property
    def tp(self) -> int:
        """Tensor-parallel ranks."""
        return self.settings.degree("tp-size")

    @property
    def pp(self) -> int:
        """Pipeline stages."""
        return self.settings.degree("pp-size")

    @property
    def attention_dp(self) -> int:
        """Groups that attend to requests of their own."""
        return self.settings.degree("attn-dp-size")

    @property
    def attention_cp(self) -> int:
        """Ranks among which a prompt is split."""
        return self.settings.degree("attn-cp-size")

    @property
    def attention_tp(self) -> int:
        """Ranks that share the heads of one group (runtime_context.py, `derive_attn_tp_size`)."""
        return max(self.tp // self.attention_dp // self.attention_cp, 1)

    @property
    def dcp(self) -> int:
        """Ranks among which the KV cache of one sequence is split."""
        return self.settings.degree("dcp-size")

    @property
    def moe_dp(self) -> int:
        """Replicas of the experts within the tensor-parallel ranks."""
        return self.settings.degree("moe-dp-size")

    @property
    def ep(self) -> int:
        """Ranks that hold different experts; some backends take all of them."""
        if self.all_to_all in SPANNING_BACKENDS:
            return self.tp
        return self.settings.degree("ep-size")

    @property
    def layout(self) -> ParallelLayout:
        """The neutral layout of these degrees."""
        dense = self.settings.integer("moe-dense-tp-size")
        return replace(
            self.config.layout,
            tp=self.tp,
            pp=self.pp,
            ep=self.ep,
            dcp=self.dcp,
            pcp=self.attention_cp,
            cp=1,
            attention_dp=self.attention_dp,
            moe_tp=None,
            moe_ep=None,
            moe_dense_tp=None if dense is None else max(dense, 1),
        )

    @property
    def all_to_all(self) -> str:
        """The backend that carries tokens to their experts; `none` without."""
        return self.settings.text("moe-a2a-backend", "none")

    @property
    def method(self) -> str | None:
        """What `--quantization` says."""
        return self.settings.text("quantization") or None

    @property
    def backends(self) -> frozenset[str]:
        """Attention backends that are named, those of one phase included."""
        names = ("attention-backend", "prefill-attention-backend", "decode-attention-backend")
        return frozenset(filter(None, map(self.settings.text, names)))

    @property
    def page_size(self) -> int:
        """Tokens per page of the KV cache, where a named backend changes it too.

        A backend that does not take the size given is given 64 (arg_groups/overrides.py,
        `_mla_backend_page_constraints`).
        """
        size = self.settings.integer("page-size", 1) or 1
        for backend, sizes in _SIZED_PAGES.items():
            if backend in self.backends and size not in sizes:
                size = _FORCED_PAGE
        return size

    @property
    def generation(self) -> int | None:
        """Major compute capability of an NVIDIA GPU (9 Hopper, 10 and 12 Blackwell), if known."""
        known = self.accelerator.capability if self.accelerator else None
        return known[0] if known else None


Rule: TypeAlias = Callable[[Case], Refusal | None]
"""One rule: what it refuses, or None. The docstring names the file of SGLang that enforces it."""
