"""What may be launched, the reasons against it, and the rule each reason is counted under."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from runtimes.errors import UserError
from runtimes.parallel import ParallelLayout
from search.admission import Admission, Exclusion
from search.constraints import Constraint
from search.materialize import EngineTemplate
from search.space import Choice, Dimension, SearchSpace
from search.trial import Params
from search.values import PointValues
from tests.search.conftest import ToyEngine

Admit = Callable[..., Admission]


def space_with(*constraints: str) -> SearchSpace:
    return SearchSpace(
        ("toy", "toy-other"),
        (
            Dimension("tp", Choice((1, 2, 3, 8))),
            Dimension("pp", Choice((1, 2))),
            Dimension("max-num-seqs", Choice((8, 64, None)), engine="toy"),
            Dimension("env.FLAG", Choice((False, True)), engine="toy"),
        ),
        tuple(Constraint.parse(text) for text in constraints),
    )


def test_nothing_against_an_admissible_point(admit: Admit) -> None:
    assert admit(space_with("tp * pp <= 8")).check(Params("toy", {"tp": 8, "pp": 1})) is None


def test_a_false_constraint_is_shown_with_its_values(admit: Admit) -> None:
    admission = admit(space_with("tp * pp <= 8"))
    assert admission.check(Params("toy", {"tp": 8, "pp": 2})) == Exclusion(
        rule="constraint `tp * pp <= 8`",
        message="constraint `tp * pp <= 8` is false for tp=8, pp=2",
    )


def test_an_engine_refuses_in_its_own_words(admit: Admit) -> None:
    assert admit(space_with()).check(Params("toy", {"tp": 3, "pp": 2})) == Exclusion(
        rule="heads_shared", message="32 heads cannot be shared by tp=3 (pp=2)", engine="toy"
    )


def test_capacity_is_asked_for_the_gpus_of_the_plan(admit: Admit) -> None:
    assert admit(space_with(), gpus=8).check(Params("toy", {"tp": 8, "pp": 2})) == Exclusion(
        rule="needs N GPUs, the cluster has N", message="needs 16 GPUs, the cluster has 8"
    )


def test_the_first_reason_is_given_constraints_before_engine_before_capacity(admit: Admit) -> None:
    params = Params("toy", {"tp": 3, "pp": 2})
    both = admit(space_with("tp < 8", "tp != 3"), gpus=1).check(params)
    assert both is not None
    assert both.rule == "constraint `tp != 3`"
    engine = admit(space_with("tp < 8"), gpus=1).check(params)
    assert engine is not None
    assert (engine.engine, engine.rule) == ("toy", "heads_shared")


def test_a_constraint_about_another_engines_argument_does_not_apply(admit: Admit) -> None:
    admission = admit(space_with("max_num_seqs > 8"))
    assert admission.check(Params("toy", {"tp": 1, "max-num-seqs": 8})) is not None
    assert admission.check(Params("toy", {"tp": 1, "max-num-seqs": 64})) is None
    assert admission.check(Params("toy", {"tp": 1, "max-num-seqs": None})) is None
    assert admission.check(Params("toy-other", {"tp": 1})) is None


@pytest.mark.parametrize(
    ("text", "params", "admissible"),
    [
        ("engine != 'toy'", Params("toy", {}), False),
        ("engine != 'toy'", Params("toy-other", {}), True),
        ("gpus != 4", Params("toy", {"tp": 2, "pp": 2}), False),
        ("dp == 1", Params("toy", {"tp": 2}), True),
        ("env_FLAG == '1'", Params("toy", {"env.FLAG": True}), True),
        ("env_FLAG == '1'", Params("toy", {"env.FLAG": False}), False),
    ],
)
def test_constraints_read_the_whole_configuration(
    admit: Admit, text: str, params: Params, admissible: bool
) -> None:
    assert (admit(space_with(text)).check(params) is None) is admissible


def test_fixed_arguments_can_be_named(templates: dict[str, EngineTemplate], admit: Admit) -> None:
    templates["toy"] = EngineTemplate("toy", "m", args={"block-size": 16}, env={"LEVEL": "3"})
    admission = admit(space_with("block_size < 16", "env_LEVEL == '3'"))
    exclusion = admission.check(Params("toy", {}))
    assert exclusion is not None
    assert exclusion.message == "constraint `block_size < 16` is false for block_size=16"
    assert admission.check(Params("toy-other", {})) is None


def test_a_misspelt_name_is_an_error_that_lists_the_known_ones(admit: Admit) -> None:
    with pytest.raises(UserError, match=r"max_num_seq, which no engine .*max_num_seqs"):
        admit(space_with("max_num_seq > 8"))


def test_an_undecidable_constraint_is_the_users_error(admit: Admit) -> None:
    admission = admit(space_with("tp / (pp - 1) < 2"))
    with pytest.raises(UserError, match="cannot be decided for tp=2, pp=1: division by zero"):
        admission.check(Params("toy", {"tp": 2, "pp": 1}))


def test_config_id_is_of_the_effective_command(admit: Admit) -> None:
    admission = admit(space_with())
    left_out = admission.config_id(Params("toy", {"tp": 2}))
    assert left_out == admission.config_id(Params("toy", {"pp": 1, "tp": 2, "max-num-seqs": None}))
    assert left_out != admission.config_id(Params("toy", {"tp": 2, "max-num-seqs": 8}))
    assert left_out != admission.config_id(Params("toy", {"tp": 2, "env.FLAG": True}))
    assert admission.plan(Params("toy", {"tp": 2, "pp": 2})).gpus == 4


# --- presets and precisions ---------------------------------------------------------------------

PRESETS = SearchSpace(
    ("toy", "toy-other"),
    (
        Dimension("parallel.preset", Choice(("wide", None))),
        Dimension("tp", Choice((1, 2)), replaced_by="parallel.preset"),
        Dimension("quantization.kv_cache", Choice((None, "fp8"))),
    ),
)


@pytest.fixture
def preset_templates(templates: dict[str, EngineTemplate]) -> dict[str, EngineTemplate]:
    templates["toy"] = EngineTemplate("toy", "m", layouts={"wide": ParallelLayout(tp=4, dp=2)})
    templates["toy-other"] = EngineTemplate("toy-other", "m", layouts={"wide": "it is narrow"})
    return templates


@pytest.mark.usefixtures("preset_templates")
def test_a_preset_that_an_engine_cannot_express_is_excluded_with_the_reason(admit: Admit) -> None:
    params = Params("toy-other", {"parallel.preset": "wide", "quantization.kv_cache": None})
    assert admit(PRESETS).check(params) == Exclusion(
        "preset wide", "toy-other has no wide: it is narrow", "toy-other"
    )


@pytest.mark.usefixtures("preset_templates")
@pytest.mark.parametrize(
    ("text", "admissible"),
    [
        ("tp == 4 and dp == 2 and gpus == 8", True),
        ("tp < 4", False),
        ("parallel_preset != 'wide'", False),
        ("quantization_kv_cache == 'fp8'", True),
        ("quantization_gemm == 'fp8'", True),  # nothing is said of it, so the rule is not either
        ("ep == 1 and moe_tp == 3", True),
        ("ep > 1", False),
    ],
)
def test_constraints_read_what_a_preset_stands_for(
    admit: Admit, text: str, admissible: bool
) -> None:
    params = Params("toy", {"parallel.preset": "wide", "quantization.kv_cache": "fp8"})
    space = replace(PRESETS, constraints=(Constraint.parse(text),))
    assert (admit(space).check(params) is None) is admissible


@pytest.mark.usefixtures("preset_templates")
def test_the_values_of_an_inexpressible_preset_are_not_known(
    preset_templates: dict[str, EngineTemplate],
) -> None:
    values = PointValues(preset_templates, lambda name: ToyEngine())
    known = values(Params("toy-other", {"parallel.preset": "wide", "size": 3}))
    assert known["engine"] == "toy-other"
    assert known["size"] == 3
    assert not {"tp", "gpus", "parallel_preset"} & known.keys()
    assert values(Params("toy", {"parallel.preset": "wide"}))["gpus"] == 8


@pytest.mark.usefixtures("preset_templates")
def test_layout_and_precision_alone_are_mapped_without_arguments(
    admit: Admit, preset_templates: dict[str, EngineTemplate]
) -> None:
    preset_templates["toy"] = replace(preset_templates["toy"], args={"fixed": 1}, env={"A": "1"})
    params = Params("toy", {"parallel.preset": "wide", "searched": 2, "env.B": "2"})
    admission = admit(PRESETS)
    assert admission.plan(params).argv[3:] == ("--fixed=1", "--searched=2")
    mapped = admission.mapped(params)
    assert mapped.argv == ("toy", "toy", "tp4 dp2")
    assert mapped.env == {}
