"""The tree keeps its rules, and the rules find what breaks them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from tests import source_rules
from tests.source_rules import BOUNDARIES, MAY_IMPORT, Source

ROOT = Path(__file__).resolve().parents[1]

Rule = Callable[[Source], Iterator[str]]

_PACKAGE_RULES: tuple[Rule, ...] = (
    source_rules.wrong_directions,
    source_rules.shared_times,
    source_rules.homeless_imports,
    source_rules.prints,
    source_rules.broad_excepts,
    source_rules.long_functions,
)


@cache
def sources(*folders: str) -> tuple[Source, ...]:
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return tuple(
        Source.of(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
        for path in paths
    )


def problems(rule: Rule, *folders: str) -> list[str]:
    return [problem for source in sources(*folders) for problem in rule(source)]


@pytest.mark.parametrize("rule", _PACKAGE_RULES, ids=lambda rule: rule.__name__)
def test_packages_keep_the_rule(rule: Rule) -> None:
    found = problems(rule, *MAY_IMPORT)
    assert not found, "\n".join(found)


def test_no_file_is_too_long() -> None:
    found = problems(source_rules.long_files, *MAY_IMPORT, "tests", "examples", "docs")
    assert not found, "\n".join(found)


def test_examples_catch_only_what_they_name() -> None:
    found = problems(source_rules.broad_excepts, "examples", "docs")
    assert not found, "\n".join(found)


def test_every_package_is_looked_at() -> None:
    for package in MAY_IMPORT:
        assert len(sources(package)) > 5, package


def test_the_list_of_boundaries_names_nothing_that_is_gone() -> None:
    found = {
        (source.path, where)
        for source in sources(*MAY_IMPORT)
        for where, _ in source_rules.caught_broadly(source)
    }
    assert set(BOUNDARIES) == found


@pytest.mark.parametrize(
    ("path", "text", "words"),
    [
        ("runtimes/a.py", "import search.space", "runtimes imports search.space"),
        ("search/a.py", "from tracking.records import Sample", "search imports tracking.records"),
        ("tracking/a.py", "def f():\n    import orchestrator", "tracking imports orchestrator"),
        (
            "runtimes/a.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from search.trial import X",
            "runtimes imports search.trial",
        ),
        ("search/a.py", "import importlib\nimportlib.import_module('tracking.open')", "search"),
    ],
)
def test_finds_an_import_that_points_the_wrong_way(path: str, text: str, words: str) -> None:
    found = list(source_rules.wrong_directions(Source.of(path, text)))
    assert len(found) == 1
    assert words in found[0]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("orchestrator/a.py", "from runtimes.plan import HOST\nimport search, tracking.open"),
        ("search/a.py", "from search.space import SearchSpace\nfrom . import trial"),
        ("tracking/a.py", "from search.trial import Params"),
    ],
)
def test_accepts_imports_that_point_the_right_way(path: str, text: str) -> None:
    assert not list(source_rules.wrong_directions(Source.of(path, text)))


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("search/perfmodel/a.py", "from runtimes.simulator.timing import StepTimer"),
        ("search/perfmodel/a.py", "def f():\n    import runtimes.simulator"),
        ("search/perfmodel/a.py", "__import__('runtimes.simulator.timing')"),
        ("search/perfmodel/a.py", "from runtimes import model, simulator"),
        ("runtimes/simulator/a.py", "from search.perfmodel.operators import Step"),
        ("runtimes/simulator/a.py", "from search import perfmodel"),
    ],
)
def test_finds_two_models_that_share_their_times(path: str, text: str) -> None:
    found = set(source_rules.shared_times(Source.of(path, text)))
    assert found
    assert all("never times" in problem for problem in found)


def test_both_models_may_share_counts_and_sizes() -> None:
    for path in source_rules.KEPT_APART:
        text = "from runtimes.model import ModelFacts\nfrom runtimes.hardware import Accelerator"
        assert not list(source_rules.shared_times(Source.of(f"{path}a.py", text)))
        assert any(source.path.startswith(path) for source in sources(*MAY_IMPORT))
    assert not list(source_rules.shared_times(Source.of("tests/a.py", "import runtimes.simulator")))


@pytest.mark.parametrize(
    ("path", "text", "library"),
    [
        ("orchestrator/driver.py", "import ray", "ray"),
        ("orchestrator/cluster/local.py", "from ray.util import state", "ray"),
        ("search/space.py", "def f():\n    import optuna", "optuna"),
        ("tracking/report.py", "import pyarrow.parquet as pq", "pyarrow"),
        ("orchestrator/run.py", "import pydantic", "pydantic"),
        ("runtimes/plan.py", "import requests", "requests"),
        ("runtimes/plan.py", "if TYPE_CHECKING:\n    import uvloop", "uvloop"),
    ],
)
def test_finds_a_library_away_from_home(path: str, text: str, library: str) -> None:
    found = list(source_rules.homeless_imports(Source.of(path, text)))
    assert len(found) == 1
    assert f"imports {library}" in found[0]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("orchestrator/cluster/ray_cluster.py", "import ray"),
        ("search/samplers/_tpe.py", "import optuna"),
        ("tracking/parquet/read.py", "import pyarrow as pa"),
        ("runtimes/plan.py", "import json\nfrom collections.abc import Mapping"),
    ],
)
def test_accepts_a_library_at_home(path: str, text: str) -> None:
    assert not list(source_rules.homeless_imports(Source.of(path, text)))


def test_finds_a_print_outside_the_command_line() -> None:
    text = "def f():\n    print('x')\n"
    assert list(source_rules.prints(Source.of("search/a.py", text))) == [
        "search/a.py:2: prints; only orchestrator/cli talks to the terminal"
    ]
    assert not list(source_rules.prints(Source.of("orchestrator/cli/a.py", text)))
    assert not list(source_rules.prints(Source.of("search/a.py", "'''print(1)'''")))


@pytest.mark.parametrize(
    ("handler", "words"),
    [
        ("except Exception:\n        x = 1", "f catches every exception"),
        ("except BaseException as error:\n        raise", "f catches every exception"),
        ("except:\n        x = 1", "f catches every exception"),
        ("except (OSError, Exception):\n        x = 1", "f catches every exception"),
        ("except builtins.Exception:\n        x = 1", "f catches every exception"),
        ("except Exception:\n        pass", "f swallows every exception"),
    ],
)
def test_finds_a_broad_except(handler: str, words: str) -> None:
    text = f"def f():\n    try:\n        g()\n    {handler}\n"
    found = list(source_rules.broad_excepts(Source.of("search/a.py", text)))
    assert len(found) == 1
    assert found[0].startswith("search/a.py:4: ")
    assert words in found[0]


def test_finds_broad_suppression_and_broad_handlers_of_a_module() -> None:
    text = (
        "with contextlib.suppress(Exception):\n    g()\ntry:\n    h()\nexcept Exception:\n    i()\n"
    )
    found = list(source_rules.broad_excepts(Source.of("search/a.py", text)))
    assert len(found) == 2
    assert "(module) suppresses every exception" in found[0]


def test_accepts_narrow_handlers_and_named_boundaries() -> None:
    narrow = "def f():\n    try:\n        g()\n    except (OSError, ValueError):\n        pass\n"
    assert not list(source_rules.broad_excepts(Source.of("search/a.py", narrow)))
    (path, where), _ = next(iter(BOUNDARIES.items()))
    kind, _, method = where.partition(".")
    lines = [
        f"class {kind}:",
        f"    def {method}(self):",
        *("        try:", "            g()", "        except Exception:", "            h()"),
    ]
    assert not list(source_rules.broad_excepts(Source.of(path, "\n".join(lines))))
    lines[-1] = "            pass"
    swallowed = list(source_rules.broad_excepts(Source.of(path, "\n".join(lines))))
    assert len(swallowed) == 1


def test_counts_a_function_without_docstring_and_decorators() -> None:
    body = "    x = 1\n" * (source_rules.MAX_FUNCTION_LINES - 1)
    fits = f"@decorate\ndef f():\n    '''Two\n\n    lines.'''\n{body}"
    assert not list(source_rules.long_functions(Source.of("search/a.py", fits)))
    found = list(source_rules.long_functions(Source.of("search/a.py", fits + "    y = 2\n")))
    assert len(found) == 1
    assert "f has 61 lines" in found[0]


def test_finds_a_file_that_is_too_long() -> None:
    assert not list(source_rules.long_files(Source.of("search/a.py", "x = 1\n" * 400)))
    found = list(source_rules.long_files(Source.of("search/a.py", "x = 1\n" * 401)))
    assert found == ["search/a.py:1: has 401 lines; split it by duty below 401"]
