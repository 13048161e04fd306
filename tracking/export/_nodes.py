"""The commands of the further nodes of a server that is spread over several."""

from __future__ import annotations

from runtimes.plan import HOST, MASTER_HOST, PORT

_TASKS = ("mpirun", "-n")


def nodes_of(engine: str, argv: tuple[str, ...]) -> int:
    """Nodes that the server with the first node's command `argv` is spread over."""
    if engine == "tensorrt_llm":
        per_node = _value(argv, "--gpus_per_node")
        return -(-tasks_of(argv) // int(per_node)) if per_node and tasks_of(argv) else 1
    if not any(MASTER_HOST in part for part in argv):
        return 1
    if nodes := _value(argv, "--nnodes"):
        return int(nodes)
    local, ranks = _value(argv, "--data-parallel-size-local"), _value(argv, "--data-parallel-size")
    return int(ranks) // int(local) if local and ranks else 1


def tasks_of(argv: tuple[str, ...]) -> int:
    """Ranks that MPI starts for `argv`; 0 where it starts none."""
    return int(argv[2]) if argv[:2] == _TASKS else 0


def node_command(engine: str, argv: tuple[str, ...], node: int) -> tuple[str, ...]:
    """The command of node `node`, of which node 0 has `argv`.

    Contract of the engines' plans (`runtimes.engines`): nodes differ in their rank, and those of
    vLLM after the first answer nobody.
    """
    if node == 0 or engine == "tensorrt_llm":
        return argv
    if engine == "sglang":
        return _replaced(argv, "--node-rank", str(node))
    address = argv.index("--host")
    own = (*argv[:address], *argv[address + 4 :])
    if argv[address : address + 4] != ("--host", HOST, "--port", PORT):
        own = argv
    local = _value(own, "--data-parallel-size-local")
    if local is None:
        own = _replaced(own, "--node-rank", str(node))
        after = "--data-parallel-rpc-port" if "--data-parallel-rpc-port" in own else "--master-port"
        return _inserted(own, after, ("--headless",))
    start = ("--data-parallel-start-rank", str(node * int(local)), "--headless")
    return _inserted(own, "--data-parallel-rpc-port", start)


def _value(argv: tuple[str, ...], name: str) -> str | None:
    return argv[argv.index(name) + 1] if name in argv else None


def _replaced(argv: tuple[str, ...], name: str, value: str) -> tuple[str, ...]:
    at = argv.index(name) + 1
    return (*argv[:at], value, *argv[at + 1 :])


def _inserted(argv: tuple[str, ...], after: str, parts: tuple[str, ...]) -> tuple[str, ...]:
    at = argv.index(after) + 2
    return (*argv[:at], *parts, *argv[at:])
