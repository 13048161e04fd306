"""Reading an experiment file's YAML: safely, every key once, faults with their line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import yaml

from orchestrator.spec.redaction import shape
from runtimes.errors import Problem, SpecError
from runtimes.json_types import Json

_MERGE = "tag:yaml.org,2002:merge"
_QUOTES = "text that starts with one of * & ! % @ ` has to stand in quotes"


def read_mapping(
    path: Path, *, example: str = "name: my-study", kind: str = "an experiment file"
) -> dict[str, Json]:
    """The file's top-level mapping.

    Args:
        path: the file.
        example: a line that it may start with, for the message where it has no key at all.
        kind: what file is wanted, for the message where it is none.

    Raises:
        SpecError: it cannot be read, is no YAML, names a key twice, or is no mapping.
    """
    try:
        data = _parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise _refused(path, "", "there is no such file", f"name {kind}") from None
    except OSError as error:
        raise _refused(path, "", f"cannot be read: {error.strerror}", "name a file") from None
    except UnicodeDecodeError:
        raise _refused(path, "", "is no text in UTF-8", f"name {kind}") from None
    except yaml.YAMLError as error:
        raise SpecError(str(path), [_problem(error)]) from None
    except RecursionError:
        raise _refused(path, "", "is nested too deeply", "write it flat") from None
    except (_RepeatedKeysError, _UnreadableValueError) as error:
        raise SpecError(str(path), error.problems) from None
    if not isinstance(data, dict):
        problem = Problem("", "is no mapping of keys", shape(data), f"start with `{example}`")
        raise SpecError(str(path), [problem])
    return data


class _RepeatedKeysError(Exception):
    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems


class _UnreadableValueError(Exception):
    def __init__(self, mark: yaml.Mark) -> None:
        rule = "looks like a date or a number and is none, or one of thousands of digits"
        self.problems = [Problem(_where(mark), rule, remedy="put text in quotes")]


class _Loader(yaml.SafeLoader):
    def construct_object(self, node: yaml.Node, deep: bool = False) -> object:
        try:
            return super().construct_object(node, deep)
        except ValueError:
            # Of Python's own int() and date(); its words may repeat what stands there.
            raise _UnreadableValueError(node.start_mark) from None


def _parse(text: str) -> object:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if problems := list(_repeated_keys(node, walked=set(), around=())):
            raise _RepeatedKeysError(problems)
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _repeated_keys(
    node: yaml.Node, *, walked: set[int], around: tuple[yaml.Node, ...]
) -> Iterator[Problem]:
    """Keys that stand twice in one mapping, of which YAML would let the last one win.

    An alias of something that lies around it is a problem too: no value is endless.
    """
    if node in around:
        yield Problem(_where(node.start_mark), "contains itself", remedy="remove the alias")
    if id(node) in walked:
        return
    walked.add(id(node))
    first: dict[str, yaml.Mark] = {}
    inside: list[yaml.Node] = []
    if isinstance(node, yaml.SequenceNode):
        inside = node.value
    elif isinstance(node, yaml.MappingNode):
        inside = [value for _, value in node.value]
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE:
                continue
            if known := first.get(key.value):
                rule = f"the key {key.value!r} stands here and in line {known.line + 1}"
                yield Problem(_where(key.start_mark), rule, remedy="keep one of them")
            first.setdefault(key.value, key.start_mark)
    for item in inside:
        yield from _repeated_keys(item, walked=walked, around=(*around, node))


def _where(mark: yaml.Mark) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}"


def _problem(error: yaml.YAMLError) -> Problem:
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        words = str(error).partition("\n")[0]
        return Problem("", f"is no YAML: {words}", remedy="look for characters that do not show")
    where = _where(error.problem_mark)
    if isinstance(error, yaml.constructor.ConstructorError | yaml.composer.ComposerError):
        # Their words repeat what stands there, which might be a secret.
        return Problem(where, "is no plain YAML value", remedy=_QUOTES)
    words = error.problem or error.context or "cannot be read"
    return Problem(where, f"is no YAML: {words}", remedy=_hint(words))


def _hint(words: str) -> str:
    if "\\t" in words:
        return "indent with spaces"
    if "cannot start any token" in words:
        return _QUOTES
    return "look at this line and the one before: indentation, quotes, brackets, colons"


def _refused(path: Path, where: str, rule: str, remedy: str) -> SpecError:
    return SpecError(str(path), [Problem(where, rule, remedy=remedy)])
