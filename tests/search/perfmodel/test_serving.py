"""What users see of one deployment, beside what its steps cost."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from runtimes.serving_limits import ServingLimits
from search.perfmodel.fit import stored_fit
from search.perfmodel.question import Load, Speculation, Spread
from tests.search.perfmodel.deployments import LATENT, LLAMA, answered, deployment

BIG = "meta-llama/Llama-3.1-70B"
USUAL = Load(input_tokens=1024, output_tokens=256, concurrency=16)


class TestClosedLoop:
    def test_a_single_stream_takes_its_prompt_and_then_its_steps(self) -> None:
        configuration = deployment()
        found = answered(configuration, replace(USUAL, concurrency=1))
        overheads = stored_fit().overheads(configuration)
        steps_ms = found.decode.seconds * 1e3
        assert found.tpot_ms == pytest.approx(steps_ms, rel=0.01)
        around_s = overheads.first_token_s + overheads.prompt_s
        assert found.ttft_ms / 1e3 == pytest.approx(found.prefill.seconds + around_s, rel=0.05)
        assert found.e2e_ms == pytest.approx(found.ttft_ms + 255 * found.tpot_ms)
        assert found.request_throughput == pytest.approx(1e3 / found.e2e_ms, rel=0.01)
        assert found.running == 1

    def test_rates_count_all_tokens_of_all_replicas(self) -> None:
        one = answered(deployment(), USUAL)
        assert one.output_throughput == pytest.approx(256 * one.request_throughput)
        assert one.total_throughput == pytest.approx(1280 * one.request_throughput)
        four = answered(deployment(spread=Spread(replicas=4)), replace(USUAL, concurrency=64))
        assert four.gpus == 4
        assert four.request_throughput == pytest.approx(4 * one.request_throughput)
        assert four.output_throughput_per_gpu == pytest.approx(one.output_throughput)
        assert four.tpot_ms == pytest.approx(one.tpot_ms)

    def test_more_streams_than_slots_wait_for_one(self) -> None:
        limits = ServingLimits(max_num_seqs=8)
        full = answered(deployment(limits=limits), replace(USUAL, concurrency=8))
        over = answered(deployment(limits=limits), replace(USUAL, concurrency=80))
        assert over.running == 8
        assert over.tpot_ms == pytest.approx(full.tpot_ms, rel=0.01)
        waiting_s = over.waiting_ms / 1e3
        assert waiting_s == pytest.approx(72 / over.request_throughput, rel=0.1)

    def test_a_prompt_larger_than_the_budget_takes_several_steps(self) -> None:
        load = Load(input_tokens=8192, output_tokens=256, concurrency=1)
        small, large = (
            answered(deployment(limits=ServingLimits(max_num_batched_tokens=tokens)), load)
            for tokens in (512, 8192)
        )
        # Each of the sixteen steps reads all weights again.
        assert small.ttft_ms > large.ttft_ms
        whole = ServingLimits(max_num_batched_tokens=512, chunked_prefill=False)
        unsplit = answered(deployment(limits=whole), load)
        assert unsplit.ttft_ms == pytest.approx(large.ttft_ms, rel=0.02)

    def test_a_full_budget_bounds_what_prompts_bring(self) -> None:
        limits = ServingLimits(max_num_batched_tokens=512)
        configuration = deployment(LLAMA, "L40S", limits=limits)
        rates = [
            answered(
                configuration, Load(input_tokens=26_000, output_tokens=8, concurrency=streams)
            ).request_throughput
            for streams in (1, 2, 4, 16, 64)
        ]
        # One after the other is all there is: more streams only hide the few decode steps.
        assert max(rates) <= min(rates) * 1.15


class TestOpenLoop:
    def test_waiting_grows_towards_the_highest_rate(self) -> None:
        configuration = deployment()
        highest = answered(configuration, _saturated(USUAL)).request_throughput
        waiting = []
        for share in (0.1, 0.5, 0.9):
            found = answered(configuration, _at_rate(USUAL, share * highest))
            assert found.stable
            assert found.request_throughput == pytest.approx(share * highest)
            waiting.append(found.waiting_ms)
        assert waiting == sorted(waiting)
        assert 0 <= waiting[0] < waiting[2]

    def test_more_than_can_be_served_never_ends(self) -> None:
        configuration = deployment()
        highest = answered(configuration, _saturated(USUAL)).request_throughput
        found = answered(configuration, _at_rate(USUAL, 2 * highest))
        assert not found.stable
        assert found.ttft_ms == found.waiting_ms == np.inf
        assert found.request_throughput == pytest.approx(highest, rel=0.01)
        assert 0 < found.tpot_ms < np.inf

    def test_running_follows_the_rate(self) -> None:
        found = answered(deployment(), _at_rate(USUAL, 5))
        decoding = 5 * 255 * found.tpot_ms / 1e3
        assert decoding <= found.running <= 5 * found.e2e_ms / 1e3


class TestSpeculation:
    slow = Load(input_tokens=512, output_tokens=512, concurrency=1)

    def tpot(self, acceptance: float | None, drafts: int = 4) -> float:
        speculation = acceptance is not None and Speculation(
            draft_tokens=drafts, acceptance=acceptance
        )
        configuration = replace(deployment(BIG, "H200"), speculation=speculation or None)
        return answered(configuration, self.slow).tpot_ms

    def test_drafts_that_are_never_taken_cost_and_all_taken_pay(self) -> None:
        plain = self.tpot(None)
        assert plain < self.tpot(0.0) < 1.2 * plain
        assert self.tpot(1.0) == pytest.approx(plain / 5, rel=0.2)

    def test_more_acceptance_is_faster(self) -> None:
        times = [self.tpot(share) for share in (0.0, 0.3, 0.6, 0.9, 1.0)]
        assert times == sorted(times, reverse=True)

    def test_accepted_tokens_are_a_geometric_sum(self) -> None:
        ratio = self.tpot(0.0) / self.tpot(0.5)
        assert ratio == pytest.approx(1 + 0.5 + 0.25 + 0.125 + 0.0625, rel=0.01)


class TestLayouts:
    def test_tensor_parallelism_speeds_up_one_stream_less_than_it_costs(self) -> None:
        load = replace(USUAL, concurrency=1)
        one, eight = (
            answered(deployment(BIG, "B200", spread=Spread(tp=tp, dense_tp=tp)), load)
            for tp in (1, 8)
        )
        assert one.tpot_ms / 8 < eight.tpot_ms < one.tpot_ms
        assert eight.decode.communication_s > one.decode.communication_s == 0
        assert eight.memory.weights < one.memory.weights / 7

    def test_stages_do_not_speed_up_one_stream_but_serve_more(self) -> None:
        one, four = deployment(), deployment(spread=Spread(pp=4))
        single = replace(USUAL, concurrency=1)
        alone, staged = answered(one, single), answered(four, single)
        assert staged.tpot_ms > alone.tpot_ms
        # The bubble: a single stream keeps one stage of four busy.
        assert staged.output_throughput_per_gpu < alone.output_throughput_per_gpu / 3
        many = replace(USUAL, concurrency=400)
        assert answered(four, many).output_throughput > 2 * answered(one, many).output_throughput

    def test_attention_groups_run_sequences_of_their_own(self) -> None:
        spread = Spread(groups=8, expert_ep=8)
        configuration = deployment(LATENT, "B200", spread=spread)
        found = answered(configuration, replace(USUAL, concurrency=64))
        assert found.memory.fits
        assert found.running == pytest.approx(64, rel=0.01)
        shared = answered(
            deployment(LATENT, "B200", spread=Spread(tp=8, dense_tp=8, expert_tp=8)),
            replace(USUAL, concurrency=64),
        )
        # The latent of each sequence stands on one GPU instead of all eight.
        assert found.memory.max_sequences > 4 * shared.memory.max_sequences


def test_a_prefix_that_is_cached_is_not_computed_again() -> None:
    load = Load(input_tokens=16_000, output_tokens=128, concurrency=4)
    cold, warm = answered(deployment(), load), answered(deployment(), replace(load, prefix_hit=0.9))
    assert warm.prefill.seconds < cold.prefill.seconds / 4
    assert warm.ttft_ms < cold.ttft_ms
    assert warm.memory.kv_cache == cold.memory.kv_cache


def _at_rate(load: Load, rate: float) -> Load:
    return replace(load, concurrency=None, request_rate=rate)


def _saturated(load: Load) -> Load:
    return replace(load, concurrency=None, saturated=True)
