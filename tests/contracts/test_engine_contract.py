"""What every engine promises, tried on each one the registry knows.

A new engine is tried as soon as its file exists; nothing here names one.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.engines.base import CANONICAL_METRICS, ENGINES, EngineReport, create_engine
from runtimes.hardware import ACCELERATORS
from runtimes.json_types import Json
from runtimes.model import ModelFacts, find_model
from runtimes.parallel import ParallelLayout
from runtimes.plan import HOST, PORT, EngineConfig

MODEL = "meta-llama/Llama-3.1-8B-Instruct"
LAYOUTS = [ParallelLayout(tp, pp, dp) for tp, pp, dp in product((1, 2, 3, 8), (1, 2), (1, 4))]
SECRETS = {"HF_TOKEN": "hf_planted_token", "VLLM_API_KEY": "planted-api-key"}
ARGS = st.dictionaries(
    st.sampled_from(["max-num-seqs", "max-num-batched-tokens", "block-size"]),
    st.integers(1, 1 << 20),
)


STARTED = [name for name, engine in ENGINES.entries().items() if not engine.attaches]
"""Engines that servetune starts, which therefore have a command."""


def config_of(
    name: str,
    *,
    layout: ParallelLayout | None = None,
    args: Mapping[str, Json] | None = None,
    env: Mapping[str, str] | None = None,
    secrets: tuple[str, ...] = (),
    revision: str | None = None,
) -> EngineConfig:
    """A configuration with the options that the engine `name` cannot do without."""
    return EngineConfig(
        name, MODEL, revision, layout or ParallelLayout(),
        args=args or {}, env=env or {}, secrets=secrets,
        options=ENGINES.get(name).required_options,
    )  # fmt: skip


@pytest.mark.parametrize("name", ENGINES.names())
class TestEngineContract:
    def test_is_called_as_registered(self, name: str) -> None:
        engine = create_engine(name)
        assert engine.name == name
        assert type(engine) is ENGINES.get(name)

    def test_is_stateless_and_picklable(self, name: str) -> None:
        engine = create_engine(name)
        config = config_of(name, args={"max-num-seqs": 64})
        copy = pickle.loads(pickle.dumps(engine))
        assert pickle.loads(pickle.dumps(engine.plan(config))) == copy.plan(config)

    def test_metrics_are_canonical(self, name: str) -> None:
        metrics = create_engine(name).metrics
        assert metrics
        assert set(metrics.values()) <= set(CANONICAL_METRICS)

    def test_request_fields_pin_sampling_and_are_json(self, name: str) -> None:
        fields = create_engine(name).request_fields
        assert json.loads(json.dumps(fields)) == fields
        assert fields["temperature"] == 0.0
        assert fields["top_p"] == 1.0
        assert fields["ignore_eos"] is True
        assert "top_k" in fields

    @pytest.mark.parametrize("layout", LAYOUTS, ids=str)
    def test_plans_every_layout_on_its_gpus(self, name: str, layout: ParallelLayout) -> None:
        plan = create_engine(name).plan(config_of(name, layout=layout))
        assert plan.engine == name
        assert plan.gpus == create_engine(name).gpus(layout) >= 1

    def test_secrets_are_passed_by_name_only(
        self, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for variable, value in SECRETS.items():
            monkeypatch.setenv(variable, value)
        engine = create_engine(name)
        plan = engine.plan(config_of(name, secrets=tuple(SECRETS)))
        assert plan.secrets == tuple(SECRETS)
        written = repr(plan)
        assert not any(value in written for value in SECRETS.values())
        assert not set(SECRETS) & set(plan.env)

    @pytest.mark.parametrize("layout", LAYOUTS, ids=str)
    @pytest.mark.parametrize("accelerator", [None, "H100", "L4"])
    @pytest.mark.parametrize("model", [None, find_model(MODEL)], ids=["unknown", "known"])
    def test_refusals_are_words(
        self,
        name: str,
        layout: ParallelLayout,
        accelerator: str | None,
        model: ModelFacts | None,
    ) -> None:
        engine = create_engine(name)
        device = ACCELERATORS[accelerator] if accelerator else None
        config = config_of(name, layout=layout)
        reason = engine.refuse(config, model, device)
        assert reason is None or reason.message.strip()
        assert engine.refuse(config, model, device) == reason

    def test_describes_a_silent_engine(self, name: str) -> None:
        report = create_engine(name).describe(log="", metrics_text="", version_json="")
        assert report == EngineReport()

    def test_reserved_arguments_are_named_back(self, name: str) -> None:
        engine = create_engine(name)
        for argument in engine.reserved_args:
            assert engine.check_args({argument: 1}) == [argument]
        assert engine.check_args({}) == []


@pytest.mark.parametrize("name", STARTED)
class TestStartedEngineContract:
    def test_command_takes_host_and_port(self, name: str) -> None:
        plan = create_engine(name).plan(config_of(name))
        for command in (plan.argv, plan.deploy):
            assert HOST in " ".join(command)
            assert PORT in " ".join(command)
        filled = plan.processes[0].command(host="127.0.0.1", port=23456)
        assert {"127.0.0.1", "23456"} <= set(filled)
        assert not any(HOST in part or PORT in part for part in filled)

    def test_plan_names_the_model(self, name: str) -> None:
        plan = create_engine(name).plan(config_of(name, revision="abc123"))
        assert MODEL in plan.argv
        assert MODEL in " ".join(plan.deploy)
        assert "abc123" in " ".join(plan.deploy)

    @given(left=ARGS, right=ARGS)
    def test_config_id_tells_configurations_apart(
        self, name: str, left: dict[str, Json], right: dict[str, Json]
    ) -> None:
        engine = create_engine(name)
        ids = [engine.plan(config_of(name, args=args)).config_id for args in (left, right)]
        assert (ids[0] == ids[1]) == (left == right)

    @given(args=ARGS)
    def test_plan_does_not_depend_on_the_order_of_arguments(
        self, name: str, args: dict[str, Json]
    ) -> None:
        engine = create_engine(name)
        turned = dict(reversed(args.items()))
        plans = [engine.plan(config_of(name, args=given)) for given in (args, turned)]
        assert plans[0] == plans[1]
        assert plans[0].config_id == plans[1].config_id

    def test_environment_is_part_of_the_configuration(self, name: str) -> None:
        engine = create_engine(name)
        plain = engine.plan(config_of(name))
        changed = engine.plan(config_of(name, env={"OMP_NUM_THREADS": "2"}))
        assert changed.env["OMP_NUM_THREADS"] == "2"
        assert changed.config_id != plain.config_id
