"""Bundles on a Ray cluster: one actor per node, holding GPUs while the study runs."""

from __future__ import annotations

import logging
import os
import re
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator.cluster.base import ClusterSettings, Deliver, own_bundle
from orchestrator.messages import (
    FoundBundle,
    FromTrial,
    LostBundle,
    ReturnedGpu,
    TrialOrder,
    undelivered,
)
from orchestrator.placement import Bundle
from runtimes.errors import ClusterError, MissingToolError
from runtimes.telemetry.release import DirtyGpu

try:
    import ray
    from ray._private.state import available_resources_per_node
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError as error:
    raise MissingToolError(
        "cluster.kind: ray needs Ray, which is not installed; "
        "pip install 'servetune[ray]', or use {kind: local} on one machine"
    ) from error

from orchestrator.cluster.ray_bundle import RayBundle
from orchestrator.cluster.ray_metrics import written_targets

# Ray leaves these untyped.
_ACTOR: Any = ray.remote(RayBundle)
_nodes: Callable[[], list[dict[str, Any]]] = ray.nodes
_available: Callable[[], dict[str, dict[str, float]]] = available_resources_per_node
_logger = logging.getLogger(__name__)

_ACTOR_DEADLINE_S = 120.0
_FREE_DEADLINE_S = 60.0
_REACH_S = 5.0
_POLL_S = 0.5
_NO = frozenset({"", "0", "no", "false"})
_YES = frozenset({"1", "true", "yes"})
_RAYS_OWN = frozenset({"CPU", "GPU", "memory", "object_store_memory"})
_MAX_CONCURRENCY = 1000
"""Calls one actor answers at once: every trial it hosts is one, and cancels come beside them."""


class RayCluster:
    """Joins or starts a Ray cluster and leases its GPUs through bundle actors."""

    def __init__(self, settings: ClusterSettings, deliver: Deliver) -> None:
        self._settings = settings
        self._deliver = deliver
        self._actors: dict[str, Any] = {}
        self._labels: dict[str, frozenset[str]] = {}
        self._threads: list[threading.Thread] = []
        self._owned = False
        self._folder: str | None = None
        self._closing = False
        self._nodes_metrics: tuple[str, ...] = ()

    def start(self) -> None:
        self._connect()
        self._nodes_metrics = tuple(
            f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}"
            for node in _nodes()
            if node["Alive"] and node.get("MetricsExportPort")
        )
        described = [
            (bundle_id, self._described(bundle_id, reference))
            for bundle_id, reference in self._lease()
        ]
        found = [bundle for _, bundle in described if isinstance(bundle, Bundle)]
        reasons = [reason for _, reason in described if isinstance(reason, str)]
        if not found:
            raise ClusterError("; ".join(reasons))
        for reason in reasons:
            _logger.warning("a node is left out: %s", reason)
        for bundle in found:
            self._deliver(FoundBundle(bundle))

    def _lease(self) -> list[tuple[str, Any]]:
        """Start an actor on every node with free GPUs, as far as `max_gpus` goes.

        Right after another driver was killed, its devices are on their way back: wait for some.
        """
        deadline = time.monotonic() + _FREE_DEADLINE_S
        while not (nodes := _free_gpus_by_node()):
            if time.monotonic() > deadline:
                raise ClusterError(
                    "the Ray cluster has no free GPU (`ray status` shows who holds them); free "
                    "some, or try servetune with {address: local, simulated_gpus: 8}"
                )
            time.sleep(_POLL_S)
        wanted = self._settings.max_gpus
        pending = []
        taken = 0
        for node_id, gpus in nodes:
            count = gpus if wanted is None else min(gpus, wanted - taken)
            if count > 0:
                taken += count
                pending.append(self._start_actor(node_id, count))
        return pending

    def launch(self, order: TrialOrder) -> None:
        actor = self._actors[order.allocation.bundle]
        stream = actor.run.options(num_returns="streaming").remote(order)
        self._begin(f"servetune-trial-{order.number}", lambda: self._follow(order, stream))

    def cancel(self, bundle_id: str, number: int, attempt: int) -> None:
        if actor := self._actors.get(bundle_id):
            actor.cancel.remote(number, attempt)

    def watch(self, bundle_id: str, gpu: DirtyGpu) -> None:
        if actor := self._actors.get(bundle_id):
            returned = actor.returned.remote(gpu)
            self._begin(f"servetune-gpu-{gpu.gpu}", lambda: self._await(bundle_id, gpu, returned))

    def metrics_targets(self) -> Sequence[str]:
        """From the file that Ray's dashboard writes for Prometheus, where this node has it.

        Without a dashboard nobody writes it; then those of the nodes there were at the start.
        """
        node = ray._private.worker._global_node
        if node is None:
            return ()
        return written_targets(Path(node.get_session_dir_path())) or self._nodes_metrics

    def close(self) -> None:
        if ray.is_initialized():
            self._give_back()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _give_back(self) -> None:
        self._closing = True
        for actor in self._actors.values():
            try:
                ray.get(actor.close.remote(), timeout=_ACTOR_DEADLINE_S)
            except ray.exceptions.RayError as error:
                _logger.warning("a bundle did not close in good order: %s", _first(error))
            ray.kill(actor)
        self._actors.clear()
        for thread in self._threads:
            thread.join(timeout=_ACTOR_DEADLINE_S)
        if self._owned:
            ray.shutdown()

    def _connect(self) -> None:
        """Join the cluster this process is already in, the one named, or a new one."""
        if ray.is_initialized():
            return
        self._owned = True
        address = self._settings.address
        if address == "local":
            self._start_local()
            return
        _check_reachable(address)
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ClusterError(_no_cluster(address, _first(error))) from None

    def _start_local(self) -> None:
        # Ray renices workers and reports usage by default; engines inherit the first, and
        # somebody's private study is nobody's statistics.
        os.environ.setdefault("RAY_worker_niceness", "0")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        if self._settings.offline:
            os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        # The path of a Unix socket in Ray's folder must stay below 107 bytes.
        folder = os.environ.get("RAY_TMPDIR")
        if folder is None:
            folder = self._folder = tempfile.mkdtemp(prefix="st-ray-", dir="/tmp")
        with _only_free_gpus(self._settings) as gpus:
            ray.init(
                address="local",
                num_gpus=gpus,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                _temp_dir=folder,
            )

    def _start_actor(self, node_id: str, gpus: int) -> tuple[str, Any]:
        bundle_id = f"bundle-{len(self._actors)}"
        actor = _ACTOR.options(
            num_gpus=gpus,
            num_cpus=0,
            max_concurrency=_MAX_CONCURRENCY,
            max_restarts=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False),
        ).remote(bundle_id, self._settings)
        self._actors[bundle_id] = actor
        self._labels[bundle_id] = _labels_of(node_id)
        return bundle_id, actor.describe.remote()

    def _described(self, bundle_id: str, described: Any) -> Bundle | str:
        """The bundle, or why its actor could not start; then it is given up."""
        try:
            bundle: Bundle = ray.get(described, timeout=_ACTOR_DEADLINE_S)
            bundle = replace(bundle, labels=self._labels[bundle_id])
        except ray.exceptions.GetTimeoutError:
            reason = f"{bundle_id} did not start within {_ACTOR_DEADLINE_S:g} s"
        except ray.exceptions.RayError as error:
            reason = f"{bundle_id} could not start: {_first(error)}"
        else:
            return bundle
        ray.kill(self._actors.pop(bundle_id))
        return f"{reason}; look at `ray status` and the node's raylet log"

    def _begin(self, name: str, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, name=name)
        self._threads = [alive for alive in self._threads if alive.is_alive()] + [thread]
        thread.start()

    def _await(self, bundle_id: str, gpu: DirtyGpu, returned: Any) -> None:
        """Tell the driver when a device that is watched is free again."""
        try:
            if ray.get(returned):
                self._deliver(ReturnedGpu(bundle_id, gpu.gpu))
        except ray.exceptions.RayError as error:
            if not self._closing:
                self._deliver(LostBundle(bundle_id, f"its actor died: {_first(error)}"))

    def _follow(self, order: TrialOrder, stream: Any) -> None:
        """Carry one attempt's events to the driver until its stream ends."""
        try:
            for reference in stream:
                self._deliver(FromTrial(order.number, order.attempt, ray.get(reference)))
        except (ray.exceptions.RayActorError, ray.exceptions.NodeDiedError) as error:
            if not self._closing:
                reason = f"its actor died: {_first(error)}"
                self._deliver(LostBundle(order.allocation.bundle, reason))
        except ray.exceptions.RayError as error:
            words = f"the attempt's end did not arrive: {_first(error)}"
            done = undelivered(error, words)
            self._deliver(FromTrial(order.number, order.attempt, done))


@contextmanager
def _only_free_gpus(settings: ClusterSettings) -> Iterator[int]:
    """How many GPUs a Ray started here may count; it sees no device that others use.

    Raises:
        ClusterError: there is none.
    """
    bundle = own_bundle(settings, "local", "")
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    try:
        if bundle.visible:
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(bundle.gpu_ids)
        yield len(bundle.gpu_ids)
    finally:
        if bundle.visible:
            os.environ.pop("CUDA_VISIBLE_DEVICES")
            if before is not None:
                os.environ["CUDA_VISIBLE_DEVICES"] = before


def _check_reachable(address: str) -> None:
    """Ray tries for minutes; a port that nobody listens on is told at once.

    Raises:
        ClusterError: nobody does.
    """
    match = re.fullmatch(r"(?:ray://)?(?P<host>[^:/]+):(?P<port>\d+)", address)
    if match is None:
        return
    try:
        socket.create_connection((match["host"], int(match["port"])), _REACH_S).close()
    except (OSError, OverflowError) as error:
        raise ClusterError(_no_cluster(address, str(error))) from None


def _no_cluster(address: str, reason: str) -> str:
    return (
        f"no Ray cluster answers at cluster.address {address!r}: {reason}. Start one with "
        "`ray start --head`, name its address (host:port), or write {address: local} for one "
        "on this machine"
    )


def _first(error: Exception) -> str:
    """The first line of Ray's message, without its colours."""
    lines = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _labels_of(node_id: str) -> frozenset[str]:
    """Words that an engine's environment may ask for with `label`.

    Of a node label `engine=sglang` these are its name, its value and both; one that says no is
    none. A custom resource is a label too: older clusters mark their worker groups so.
    """
    node = next(node for node in _nodes() if node["NodeID"] == node_id)
    words: set[str] = set()
    for name, value in node.get("Labels", {}).items():
        if name != "ray.io/node-id" and value.lower() not in _NO:
            words |= {name, f"{name}={value}"} | ({value} - _YES)
    own = {name for name in node.get("Resources", {}) if ":" not in name}
    return frozenset(words | own - _RAYS_OWN)


def _free_gpus_by_node() -> list[tuple[str, int]]:
    """Node id and free GPUs of every living node that has some, largest first."""
    alive = {node["NodeID"] for node in _nodes() if node["Alive"]}
    free = {
        node_id: int(resources.get("GPU", 0))
        for node_id, resources in _available().items()
        if node_id in alive
    }
    return sorted(
        ((node_id, gpus) for node_id, gpus in free.items() if gpus), key=lambda item: -item[1]
    )
