"""A vLLM trial as an application of Ray Serve; Ray's `ray.serve.llm` of 2.50 and later."""

from __future__ import annotations

from runtimes.errors import UserError
from runtimes.json_types import Json
from tracking.export._deployment import Deployment
from tracking.export._kwargs import engine_kwargs, without

_OURS = {"--host": 1, "--port": 1, "--distributed-executor-backend": 1}
"""What Ray Serve decides itself: its address, and that Ray starts the workers."""
_MEETING = {
    "--nnodes": 1,
    "--node-rank": 1,
    "--master-addr": 1,
    "--master-port": 1,
    "--data-parallel-size-local": 1,
    "--data-parallel-address": 1,
    "--data-parallel-rpc-port": 1,
}
"""How processes of several nodes find each other, which Ray sees to."""
_TYPES = (
    *("GB300", "GB200", "B300", "B200", "H200", "H100", "H20"),
    *("L40S", "L4", "A10G"),
)
"""Accelerator types of Ray (util/accelerators) that are the driver's names too."""

NOTE = (
    "Ray starts vLLM's workers in place of its own multiprocessing: measure again what is close "
    "to its limits."
)


def require_vllm(deployment: Deployment) -> None:
    """Refuse the engines that `ray.serve.llm` does not run.

    Raises:
        UserError: it is none that it runs.
    """
    if deployment.engine != "vllm":
        raise UserError(
            f"trial {deployment.trial} ran {deployment.engine}, and Ray Serve's LLM applications "
            "run vLLM; use --to kubernetes, --to dynamo or --to slurm"
        )


def application(deployment: Deployment, replicas: int) -> dict[str, Json]:
    """The application: one LLM, as many copies as `replicas`."""
    argv = without(deployment.argv, {**_OURS, **_MEETING})
    kwargs = engine_kwargs(argv, deployment.version)
    model = kwargs.pop("model")
    config: dict[str, Json] = {
        "model_loading_config": {"model_id": model, "model_source": model},
        **_accelerator(deployment),
        "engine_kwargs": kwargs,
        "deployment_config": {"num_replicas": replicas},
    }
    if deployment.env:
        config["runtime_env"] = {"env_vars": dict(deployment.env)}
    spread = kwargs.get("data_parallel_size", 1) != 1
    builder = "build_dp_openai_app" if spread else "build_openai_app"
    return {
        "name": "llm",
        "route_prefix": "/",
        "import_path": f"ray.serve.llm:{builder}",
        "args": {"llm_config": config} if spread else {"llm_configs": [config]},
    }


def _accelerator(deployment: Deployment) -> dict[str, Json]:
    words = deployment.gpu_model.upper().replace("NVIDIA", " ").split()
    found = next((name for name in _TYPES if words[:1] == [name]), None)
    return {"accelerator_type": found} if found else {}
