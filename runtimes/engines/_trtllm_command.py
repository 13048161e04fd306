"""The command line, the YAML file and the pasted form of one TensorRT-LLM deployment."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence

from runtimes.engines._flags import Flag
from runtimes.engines._trtllm_settings import Settings, options
from runtimes.json_types import Json, canonical_json
from runtimes.plan import FILES, HOST, PORT, EngineConfig, pasted

FILE = "trtllm.yaml"

# The names that every 1.x release knows; the long ones came later.
_SPELLED = {
    "tensor_parallel_size": "tp_size",
    "pipeline_parallel_size": "pp_size",
    "context_parallel_size": "cp_size",
    "moe_expert_parallel_size": "ep_size",
}
_FILE_OPTION = "--extra_llm_api_options"
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
_NOT_PLAIN = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
_UNPRINTED = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff\ufffe\uffff]")
"""What YAML takes for the end of a line, or for nothing it may hold, and JSON for itself."""
_UNQUOTED_LINE = re.compile(r"[A-Za-z0-9 _./:,+\[\]{}-]+")


def server_argv(config: EngineConfig, settings: Settings) -> tuple[str, ...]:
    """The command of one server, which finds its file in the folder of its process."""
    revision = ("--revision", config.revision) if config.revision else ()
    return (
        *(config.environment.command("trtllm-serve"), config.model),
        *("--host", HOST, "--port", PORT, "--backend", "pytorch"),
        *revision,
        *_options(settings.command),
        *(_FILE_OPTION, f"{FILES}/{FILE}"),
    )


def over_mpi(argv: Sequence[str], *, ranks: int, gpus_per_node: int) -> tuple[str, ...]:
    """`argv` on ranks that MPI starts on several nodes, to be run on the first of them."""
    return (
        *("mpirun", "-n", str(ranks), "trtllm-llmapi-launch", *argv),
        *("--gpus_per_node", str(gpus_per_node)),
    )


def yaml_text(tree: Mapping[str, Json]) -> str:
    """`tree` as YAML, one key a line."""
    return "".join(f"{line}\n" for line in _lines(tree))


def deploy_command(
    argv: Sequence[str], file_text: str, *, servers: int, gpus: int
) -> tuple[str, ...]:
    """What a user pastes: writes the file beside itself, then starts every server.

    Args:
        argv: command of one server.
        file_text: content of its YAML file.
        servers: how many there are; each listens on the port after the one before.
        gpus: GPUs of each.
    """
    lines = " ".join(_quoted_line(line) for line in file_text.rstrip("\n").split("\n"))
    write = f'printf "%s\\n" {lines} > {FILE}'
    local = [part.removeprefix(f"{FILES}/") for part in pasted(argv)]
    if servers == 1:
        return ("sh", "-c", f"{write} && exec {_joined(local)}")
    started = [_one_of_several(local, index, gpus) for index in range(servers)]
    return ("sh", "-c", f"{write}; {' '.join(started)} wait")


def _one_of_several(argv: Sequence[str], index: int, gpus: int) -> str:
    devices = ",".join(str(index * gpus + device) for device in range(gpus))
    port = PORT if index == 0 else f"$(({PORT}+{index}))"
    command = _joined(argv).replace(PORT, port)
    return f"CUDA_VISIBLE_DEVICES={devices} {command} &"


def _joined(argv: Sequence[str]) -> str:
    return " ".join(part if part in (HOST, PORT) else shlex.quote(part) for part in argv)


def _quoted_line(line: str) -> str:
    """Double quotes where they do: a pasted command is itself in single quotes."""
    return f'"{line}"' if _UNQUOTED_LINE.fullmatch(line) else shlex.quote(line)


def _options(values: Mapping[str, Json]) -> Iterator[str]:
    table = options()
    layout = [name for name in _SPELLED if name in values]
    others = sorted(set(values) - set(layout))
    for name in (*layout, *others):
        yield from _option(table.flags[name], values[name])


def _option(flag: Flag, value: Json) -> Iterator[str]:
    spelled = f"--{_SPELLED.get(flag.name, flag.name)}"
    if flag.kind == "switch":
        if value is True:
            yield spelled
        return
    for item in value if flag.kind == "list" and isinstance(value, list) else [value]:
        text = item if isinstance(item, str) else canonical_json(item)
        # A value that starts with a dash would be taken for an option when it stands alone.
        yield from (f"{spelled}={text}",) if text.startswith("-") else (spelled, text)


def _lines(tree: Mapping[str, Json], indent: str = "") -> Iterator[str]:
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield f"{indent}{_scalar(key)}:"
            yield from _lines(value, indent + "  ")
        else:
            yield f"{indent}{_scalar(key)}: {_flow(value)}"


def _flow(value: Json) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_flow, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_scalar(key)}: {_flow(item)}' for key, item in value.items())}}}"
    return _scalar(value)


def _scalar(value: Json) -> str:
    if isinstance(value, str):
        is_plain = _PLAIN.fullmatch(value) and value.lower() not in _NOT_PLAIN
        return (
            value if is_plain else _UNPRINTED.sub(_escaped, json.dumps(value, ensure_ascii=False))
        )
    text = json.dumps(value)
    # YAML takes `1e-05` for text: to it a float has a point.
    return text.replace("e", ".0e") if isinstance(value, float) and "." not in text else text


def _escaped(character: re.Match[str]) -> str:
    return f"\\u{ord(character[0]):04x}"
