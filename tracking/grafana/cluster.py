"""The cluster: what its GPUs and nodes do, and which trials are on them."""

from __future__ import annotations

from runtimes.json_types import Json
from tracking.grafana.board import board
from tracking.grafana.panels import Panel, Query, Row, lines, stat
from tracking.grafana.promql import metric, rate, selector, share_of, total

_RAY = "As Ray's agent on each node says, where the study runs on Ray."


def cluster() -> dict[str, Json]:
    """The dashboard as Grafana imports it."""
    return board(
        "cluster",
        "cluster",
        "GPUs and nodes that studies hold, and the trials on them.",
        [
            Row(4, _numbers()),
            Row(8, [_gpus(), _gpu_seconds()], "GPUs"),
            Row(9, [_trials_on_gpus()]),
            Row(8, [_trials_by_phase(), _queue(), _targets()], "Trials"),
            Row(8, [_gpu_utilization(), _gpu_memory()], "Nodes, as Ray sees them"),
            Row(8, [_cpu(), _memory()]),
        ],
    )


def _numbers() -> list[Panel]:
    def gpus(title: str, words: str, state: str, alarm_from: float | None = None) -> Panel:
        expr = total(metric("gpus", f'state="{state}"'))
        return stat(title, words, 4, expr, alarm_from=alarm_from)

    used = share_of(
        total(metric("gpu_seconds_total", 'state="busy"')), total(metric("gpu_seconds_total"))
    )
    return [
        gpus("Busy", "GPUs with a trial on them.", "busy"),
        gpus("Idle", "GPUs the study may use that have no trial now.", "idle"),
        gpus("Foreign", "GPUs not given to trials, as somebody else uses them.", "foreign", 1),
        gpus(
            "Quarantined",
            "GPUs not given to trials any more, as their memory stayed in use.",
            "quarantined",
            1,
        ),
        stat("Queued", "Trials that wait for devices now.", 4, total(metric("trials_queued"))),
        stat(
            "GPU time used",
            "Busy GPU-seconds over all GPU-seconds since the driver started.",
            4,
            used,
            "percentunit",
        ),
    ]


def _gpus() -> Panel:
    return lines(
        "GPUs by what they do",
        "Busy and idle ones are the study's; foreign and quarantined ones are withheld from it.",
        "short",
        12,
        Query(total(metric("gpus"), "state"), "{{state}}"),
        stacked=True,
    )


def _gpu_seconds() -> Panel:
    return lines(
        "GPU-seconds per second",
        "How many GPUs were busy and idle on average over each interval.",
        "short",
        12,
        Query(total(rate(metric("gpu_seconds_total")), "state"), "{{state}}"),
        stacked=True,
    )


def _trials_on_gpus() -> Panel:
    return Panel(
        "state-timeline",
        "Trials and the GPUs they hold",
        "One bar a trial while it runs; the number is its GPUs.",
        "short",
        24,
        (Query(total(metric("trial_gpus"), "trial", "engine"), "trial {{trial}} {{engine}}"),),
    )


def _trials_by_phase() -> Panel:
    return lines(
        "Running trials by phase",
        "What trials that hold devices do with them.",
        "short",
        8,
        Query(total(metric("trials_by_phase"), "phase"), "{{phase}}"),
        stacked=True,
    )


def _queue() -> Panel:
    return lines(
        "Trials running and queued",
        "A queue beside idle GPUs waits for a larger block of them.",
        "short",
        8,
        Query(total(metric("trials_running")), "running"),
        Query(total(metric("trials_queued")), "queued"),
    )


def _targets() -> Panel:
    return lines(
        "Targets that Prometheus reaches",
        "Drivers, engines and Ray's agents that answer its scrapes.",
        "short",
        8,
        Query(total(selector("up"), "job"), "{{job}}"),
    )


def _gpu_utilization() -> Panel:
    return lines(
        "GPU utilisation",
        f"Share of the time a kernel ran. {_RAY}",
        "percent",
        12,
        Query(selector("ray_node_gpus_utilization"), "{{instance}} GPU {{GpuIndex}}"),
    )


def _gpu_memory() -> Panel:
    return lines(
        "GPU memory in use",
        _RAY,
        "mbytes",
        12,
        Query(selector("ray_node_gram_used"), "{{instance}} GPU {{GpuIndex}}"),
    )


def _cpu() -> Panel:
    return lines(
        "CPU utilisation of the nodes",
        _RAY,
        "percent",
        12,
        Query(selector("ray_node_cpu_utilization"), "{{instance}}"),
    )


def _memory() -> Panel:
    used, whole = selector("ray_node_mem_used"), selector("ray_node_mem_total")
    return lines(
        "Memory of the nodes in use",
        _RAY,
        "percentunit",
        12,
        Query(f"{used} / {whole}", "{{instance}}"),
    )
