"""Rules of the source tree, checked from its syntax; `test_architecture.py` applies them."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch

MAY_IMPORT: Mapping[str, frozenset[str]] = {
    "runtimes": frozenset(),
    "search": frozenset({"runtimes"}),
    "tracking": frozenset({"runtimes", "search"}),
    "orchestrator": frozenset({"runtimes", "search", "tracking"}),
}
"""Our packages, and which others of ours each may import."""

HOMES: Mapping[str, tuple[str, ...]] = {
    "alembic": ("tracking/export/*",),
    "fastapi": ("orchestrator/web/*",),
    "httptools": ("runtimes/load/*",),
    "huggingface_hub": ("runtimes/hub.py",),
    "jinja2": ("tracking/report*.py",),
    "kaleido": ("tracking/plots/*",),
    "markupsafe": ("tracking/report*.py",),
    "mlflow": ("tracking/export/*",),
    "numpy": ("runtimes/*", "search/perfmodel/*", "tracking/parquet/*"),
    "optuna": ("search/samplers/*", "search/analysis/*", "tracking/export/*"),
    "orjson": ("runtimes/load/*",),
    "pandas": ("tracking/parquet/*", "tracking/open.py"),
    "plotly": ("tracking/plots/*",),
    "prometheus_client": ("tracking/exporter*.py",),
    "pyarrow": ("tracking/parquet/*",),
    "pydantic": ("orchestrator/spec/*", "orchestrator/web/*"),
    "pydantic_core": ("orchestrator/spec/*",),
    "pynvml": ("runtimes/telemetry/*",),
    "ray": ("orchestrator/cluster/ray*.py",),
    "rich": ("orchestrator/cli/*",),
    "sqlalchemy": ("tracking/export/*",),
    "starlette": ("orchestrator/web/*",),
    "tokenizers": ("runtimes/tokenizer.py",),
    "torch": ("runtimes/calibration/probe/*",),
    "uvicorn": ("runtimes/simulator/*", "orchestrator/web/*"),
    "uvloop": ("runtimes/load/*",),
    "yaml": (
        "orchestrator/*",
        "tracking/export/*",
        "tracking/grafana/*",
        "tracking/report_view.py",
    ),
}
"""Every library the packages use, and the files that may import it, typing-only imports included.

A library without an entry may not be imported at all: a new one needs a home first.
"""

BOUNDARIES: Mapping[tuple[str, str], str] = {
    ("orchestrator/cluster/in_process.py", "InProcessCluster._run"): (
        "the boundary of a bundle: it is lost, the study is not"
    ),
    ("orchestrator/cluster/local_host.py", "LocalHost._run"): (
        "unpacks a user's classes, which may raise anything; the attempt ends with it"
    ),
    ("orchestrator/trial_body.py", "TrialBody.run"): (
        "the boundary of a trial: a bug ends one trial, not the study"
    ),
    ("runtimes/calibration/probe/part.py", "forked"): (
        "the boundary of one kernel: torch may raise anything; the other kernels are measured"
    ),
    ("runtimes/load/worker.py", "Worker.guarded"): "tells the parent process of a bug",
    ("runtimes/registry.py", "Registry._scan"): "a plugin of somebody else's; logged and skipped",
    ("runtimes/supervisor.py", "EngineProcess._spawn"): "closes its pipe, raises again",
    ("runtimes/tokenizer.py", "_parsed"): "the library raises Exception itself; raised as ours",
}
"""The only functions that may catch everything, and why."""

KEPT_APART = ("search/perfmodel/", "runtimes/simulator/")
"""Two models of an engine's times, of which each tests the other: neither may import it."""

MAX_FUNCTION_LINES = 60
MAX_FILE_LINES = 400

_FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
_BROAD = frozenset({"Exception", "BaseException"})


@dataclass(frozen=True, slots=True)
class Source:
    """One file: its path below the root, with slashes, its syntax tree and its length."""

    path: str
    tree: ast.Module
    lines: int

    @classmethod
    def of(cls, path: str, text: str) -> Source:
        return cls(path, ast.parse(text, path), len(text.splitlines()))

    @property
    def package(self) -> str:
        return self.path.partition("/")[0]

    def problem(self, node: ast.AST, words: str) -> str:
        return f"{self.path}:{getattr(node, 'lineno', 1)}: {words}"


def wrong_directions(source: Source) -> Iterator[str]:
    """Imports of ours that point the wrong way."""
    allowed = MAY_IMPORT[source.package] | {source.package}
    for node, module in _imports(source.tree):
        top = module.partition(".")[0]
        if top in MAY_IMPORT and top not in allowed:
            legal = ", ".join(sorted(MAY_IMPORT[source.package])) or "nothing of ours"
            words = f"{source.package} imports {module}; it may import {legal}"
            yield source.problem(node, words)


def shared_times(source: Source) -> Iterator[str]:
    """Imports of the simulator by the performance model, and the other way round."""
    for folder, other in (KEPT_APART, KEPT_APART[::-1]):
        module = other.strip("/").replace("/", ".")
        if not source.path.startswith(folder):
            continue
        for node, name in [*_imports(source.tree), *_imported_names(source.tree)]:
            if f"{name}.".startswith(f"{module}."):
                words = f"imports {name}; the two share counts and sizes, never times"
                yield source.problem(node, words)


def homeless_imports(source: Source) -> Iterator[str]:
    """Imports of a third-party library outside its home."""
    for node, module in _imports(source.tree):
        top = module.partition(".")[0]
        if not top or top in MAY_IMPORT or top in sys.stdlib_module_names:
            continue
        homes = HOMES.get(top)
        if homes is None:
            yield source.problem(node, f"imports {top}, which has no home in tests/source_rules.py")
        elif not any(fnmatch(source.path, home) for home in homes):
            yield source.problem(node, f"imports {top}, whose home is {', '.join(homes)}")


def prints(source: Source) -> Iterator[str]:
    """Calls of `print` outside the command line, where messages are logged or returned."""
    if source.path.startswith("orchestrator/cli/"):
        return
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and _name(node.func) == "print":
            yield source.problem(node, "prints; only orchestrator/cli talks to the terminal")


def broad_excepts(source: Source) -> Iterator[str]:
    """Handlers of everything, outside `BOUNDARIES` or with nothing in them."""
    for where, node in caught_broadly(source):
        if not isinstance(node, ast.ExceptHandler):
            yield source.problem(node, f"{where} suppresses every exception; name the ones meant")
        elif all(isinstance(line, ast.Pass | ast.Continue) for line in node.body):
            yield source.problem(node, f"{where} swallows every exception")
        elif (source.path, where) not in BOUNDARIES:
            words = f"{where} catches every exception and is no boundary in tests/source_rules.py"
            yield source.problem(node, words)


def long_functions(source: Source) -> Iterator[str]:
    """Functions over `MAX_FUNCTION_LINES` lines, docstring and decorators left out."""
    for where, function in _functions(source.tree):
        lines = _length(function)
        if lines > MAX_FUNCTION_LINES:
            words = f"{where} has {lines} lines; split it below {MAX_FUNCTION_LINES + 1}"
            yield source.problem(function, words)


def long_files(source: Source) -> Iterator[str]:
    """Files over `MAX_FILE_LINES` lines."""
    if source.lines > MAX_FILE_LINES:
        words = f"has {source.lines} lines; split it by duty below {MAX_FILE_LINES + 1}"
        yield source.problem(source.tree, words)


def caught_broadly(source: Source) -> Iterator[tuple[str, ast.ExceptHandler | ast.Call]]:
    """Handlers and `suppress` calls that catch everything, each with the function it is in."""
    for where, function in [("(module)", source.tree), *_functions(source.tree)]:
        for node in _own_nodes(function):
            if isinstance(node, ast.ExceptHandler):
                if node.type is None or _is_broad(node.type):
                    yield where, node
            elif (
                isinstance(node, ast.Call)
                and _name(node.func) == "suppress"
                and any(map(_is_broad, node.args))
            ):
                yield where, node


def _imports(tree: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    """Every absolute import, wherever it stands, `import_module` of a literal included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node, node.module or ""
        elif isinstance(node, ast.Call) and _name(node.func) in ("import_module", "__import__"):
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield node, first.value


def _imported_names(tree: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    """What is imported from modules, by its full name: it may be a module itself."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not node.level:
            yield from ((node, f"{node.module}.{alias.name}") for alias in node.names)


def _functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, _FunctionNode]]:
    """Every function with its qualified name, nested ones after the one that holds them."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, _FunctionNode | ast.ClassDef):
            name = f"{prefix}{node.name}"
            if isinstance(node, _FunctionNode):
                yield name, node
            yield from _functions(node, f"{name}.")
        else:
            yield from _functions(node, prefix)


def _own_nodes(scope: ast.AST) -> Iterator[ast.AST]:
    """Everything inside `scope` but what belongs to a function inside it."""
    for node in ast.iter_child_nodes(scope):
        if not isinstance(node, _FunctionNode):
            yield node
            yield from _own_nodes(node)


def _length(function: _FunctionNode) -> int:
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is not None:
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def _is_broad(expression: ast.expr) -> bool:
    if isinstance(expression, ast.Tuple):
        return any(map(_is_broad, expression.elts))
    return _name(expression) in _BROAD


def _name(expression: ast.expr) -> str:
    """The last part of a dotted name; empty for anything else."""
    if isinstance(expression, ast.Attribute):
        return expression.attr
    return expression.id if isinstance(expression, ast.Name) else ""
