"""Artefacts hold to the schemas that their readers publish; origins stand in the schema files."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema_rs
import kubernetes_validate
import pytest
import yaml

from runtimes.model import find_model
from runtimes.parallel import ParallelLayout
from tests.tracking.export_samples import MODEL, artefact, config, deployment, documents
from tracking.export._deployment import Deployment
from tracking.export.base import TARGETS

GOLDEN = Path(__file__).parents[1] / "golden"
_ENGINES = ("vllm", "sglang", "tensorrt_llm")
_KUBERNETES = "1.31"


def _valid(document: Any, schema: str) -> None:
    rules = json.loads((GOLDEN / "schemas" / f"{schema}.json").read_text(encoding="utf-8"))
    jsonschema_rs.validator_for(rules).validate(document)


def _valid_in_kubernetes(*manifests: Any) -> None:
    for manifest in manifests:
        kubernetes_validate.validate(manifest, _KUBERNETES, strict=True)


def _pod(template: Any) -> Any:
    """A pod template as a pod of its own."""
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": template["spec"]}


def _deployments() -> dict[str, Deployment]:
    return {
        **{engine: deployment(config(engine)) for engine in _ENGINES},
        "a folder": deployment(config(model="/models/a model")),
        "two servers": deployment(config("tensorrt_llm", layout=ParallelLayout(tp=2, dp=2))),
        "no name of the driver's": deployment(gpu_model="H200", startup_s=None),
    }


@pytest.fixture(params=_deployments())
def of(request: pytest.FixtureRequest) -> Deployment:
    return _deployments()[request.param]


def test_kubernetes(of: Deployment) -> None:
    manifests = documents(artefact("kubernetes", of, namespace="llm", replicas=2, port=8080))
    assert [manifest["kind"] for manifest in manifests] == ["Deployment", "Service"]
    _valid_in_kubernetes(*manifests)
    made, service = manifests
    assert (
        "create secret generic chat-secrets --namespace=llm"
        in artefact("kubernetes", of, namespace="llm")
        or of.local_model
    )
    assert made["metadata"]["namespace"] == service["metadata"]["namespace"] == "llm"
    labels = made["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"] == made["spec"]["selector"]["matchLabels"] == labels
    (container,) = made["spec"]["template"]["spec"]["containers"]
    volumes = {volume["name"] for volume in made["spec"]["template"]["spec"]["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    assert container["ports"][0]["containerPort"] == service["spec"]["ports"][0]["port"] == 8080


def test_a_start_is_given_ten_times_what_it_took() -> None:
    def patience_s(startup_s: float | None) -> int:
        here = config(model="/models/here")
        text = artefact("kubernetes", deployment(here, startup_s=startup_s))
        (container,) = documents(text)[0]["spec"]["template"]["spec"]["containers"]
        probe = container["startupProbe"]
        return int(probe["periodSeconds"] * probe["failureThreshold"])

    assert patience_s(240.0) == 2400
    assert patience_s(None) == patience_s(3.0) == 600


@pytest.mark.parametrize("target", ["kubernetes", "llm-d", "compose"])
def test_a_start_is_given_the_time_to_load_a_hub_model(target: str) -> None:
    def patience_s(of: Deployment) -> float:
        text = artefact(target, of)
        found = re.search(r'failureThreshold: (\d+)|start_period: "(\d+)s"', text)
        assert found is not None
        return int(found[1]) * 10 if found[1] else int(found[2])

    facts = find_model(MODEL)
    assert facts is not None
    known = deployment(startup_s=None)
    assert patience_s(known) == pytest.approx(600 + facts.weight_bytes / 100e6, abs=10)
    assert patience_s(deployment(config(model="someone/unheard-of"), startup_s=None)) == 600
    if target != "llm-d":  # which takes no folder
        assert patience_s(replace(known, model="/models/here")) == 600


def _containers(value: Any) -> list[Any]:
    if isinstance(value, list):
        return [found for each in value for found in _containers(each)]
    if not isinstance(value, dict):
        return []
    own = value["containers"] if isinstance(value.get("containers"), list) else []
    return [*own, *(found for each in value.values() for found in _containers(each))]


@pytest.mark.parametrize("target", ["kubernetes", "kuberay", "llm-d", "dynamo"])
def test_every_container_asks_for_cpus_and_memory(target: str) -> None:
    def asked(of: Deployment) -> list[tuple[str, str]]:
        text = artefact(target, of)
        assert text.count("starting point") == 1
        requests = [each["resources"]["requests"] for each in _containers(documents(text))]
        return [(request["cpu"], request["memory"]) for request in requests]

    beside = [("2", "8Gi")] if target in ("kuberay", "dynamo") else []
    assert asked(deployment()) == [*beside, ("12", "164Gi")]  # 131.4 GiB of weights
    unknown = deployment(config(model="someone/unheard-of", layout=ParallelLayout(tp=2)))
    assert asked(unknown) == [*beside, ("8", "16Gi")]
    assert "size is not known: add them" in artefact(target, unknown)
    assert re.search(r'(sizeLimit|sharedMemorySize): "16Gi"', artefact(target, unknown))
    if target in ("kuberay", "dynamo"):
        spread = deployment(config(layout=ParallelLayout(tp=8, pp=2), nodes=2))
        assert asked(spread) == [*beside, ("20", "130Gi")]  # half of the weights, eight GPUs


def test_slurm_asks_for_the_same() -> None:
    lines = artefact("slurm").splitlines()
    assert {"#SBATCH --cpus-per-task=12", "#SBATCH --mem=164G"} <= set(lines)
    mpi = config("tensorrt_llm", layout=ParallelLayout(tp=8, pp=2), nodes=2)
    tasks = artefact("slurm", deployment(mpi)).splitlines()
    assert {"#SBATCH --ntasks-per-node=8", "#SBATCH --cpus-per-task=3"} <= set(tasks)
    nothing = artefact("slurm", deployment(gpu_model="CPU"))
    assert not re.search(r"#SBATCH --(gres|cpus-per-task|mem)", nothing)


def test_compose(of: Deployment) -> None:
    (document,) = documents(artefact("compose", of))
    _valid(document, "compose-spec")
    (service,) = document["services"].values()
    devices = service["deploy"]["resources"]["reservations"]["devices"]
    assert devices[0]["count"] == of.gpus * of.servers == 4
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def test_kuberay_and_ray_serve() -> None:
    wanted = config(layout=ParallelLayout(tp=8, pp=2), nodes=2)
    (service,) = documents(artefact("kuberay", deployment(wanted), replicas=3))
    _valid(service, "rayservice")
    cluster = service["spec"]["rayClusterConfig"]
    (group,) = cluster["workerGroupSpecs"]
    (head,) = cluster["headGroupSpec"]["template"]["spec"]["containers"]
    # KubeRay asks the head's service for the first of them, and finds what stands here alone.
    assert {"dashboard", "gcs-server", "serve"} <= {port["name"] for port in head["ports"]}
    assert group["replicas"] == 6
    assert group["rayStartParams"] == {"num-gpus": "8"}
    _valid_in_kubernetes(_pod(cluster["headGroupSpec"]["template"]), _pod(group["template"]))


def _serve_schema() -> Any:
    # Ray Serve's dependencies are an extra of Ray's, of which servetune itself needs none.
    pytest.importorskip("grpc_reflection", reason="no ray[serve] here")
    return pytest.importorskip("ray.serve.schema").ServeDeploySchema


@pytest.mark.parametrize("dp", [1, 2])
def test_ray_serve_takes_its_configuration(dp: int) -> None:
    schema = _serve_schema()
    layout = ParallelLayout(tp=4, dp=dp)
    (document,) = documents(artefact("ray-serve", deployment(config(layout=layout))))
    (application,) = schema.model_validate(document).applications
    assert application.import_path.startswith("ray.serve.llm:build_")
    assert ("llm_config" in application.args) == (dp > 1)


def test_llm_d() -> None:
    for engine in _ENGINES:
        (values,) = documents(artefact("llm-d", deployment(config(engine)), replicas=2))
        _valid(values, "llm-d-modelservice-values")
        assert values["modelArtifacts"]["uri"] == f"hf://{MODEL}"
        decode = values["decode"]
        (container,) = decode["containers"]
        parallel = decode["parallelism"]
        assert (
            str(parallel["tensor"] * parallel["dataLocal"])
            == (container["resources"]["limits"]["nvidia.com/gpu"])
        )
        own = {"name": "engine", "image": "x", **container["extraConfig"]}
        own |= {key: container[key] for key in ("command", "args", "env", "ports", "resources")}
        _valid_in_kubernetes(_pod({"spec": {"containers": [own], "volumes": decode["volumes"]}}))


@pytest.mark.parametrize("nodes", [1, 2])
def test_dynamo(of: Deployment, nodes: int) -> None:
    if nodes > 1:
        of = deployment(config(layout=ParallelLayout(tp=8, pp=2), nodes=2))
    (graph,) = documents(artefact("dynamo", of, replicas=2))
    _valid(graph, "dynamographdeployment")
    frontend, worker = graph["spec"]["components"]
    _valid_in_kubernetes(_pod(frontend["podTemplate"]), _pod(worker["podTemplate"]))
    assert worker.get("multinode", {"nodeCount": 1})["nodeCount"] == nodes
    assert worker["replicas"] == 2 * of.servers


@pytest.mark.parametrize(
    ("engine", "version", "image"),
    [
        ("vllm", "0.33.0", "vllm/vllm-openai:v0.33.0"),
        ("vllm", "0.33.0+cpu", "vllm/vllm-openai:v0.33.0"),
        ("vllm", "0.34.0rc1", "vllm/vllm-openai:v0.34.0rc1"),
        ("sglang", "0.5.9.post1", "lmsysorg/sglang:v0.5.9.post1"),
        ("tensorrt_llm", "1.3.0rc19", "nvcr.io/nvidia/tensorrt-llm/release:1.3.0rc19"),
        ("vllm", "0.33.1.dev7+g12ab", "vllm/vllm-openai:latest"),
        ("vllm", "", "vllm/vllm-openai:latest"),
    ],
)
def test_the_image_is_of_the_version_measured(engine: str, version: str, image: str) -> None:
    text = artefact("compose", deployment(config(engine), engine_version=version))
    (service,) = documents(text)[0]["services"].values()
    assert service["image"] == image
    assert ("# CHOOSE" in text) == image.endswith(":latest")


def test_dynamos_image_is_the_release_with_that_engine() -> None:
    known = artefact("dynamo", deployment(engine_version="0.28.0"))
    assert "vllm-runtime:1.5.1" in known
    assert "CHOOSE" not in known
    assert "# CHOOSE the image" in artefact("dynamo", deployment())


@pytest.mark.parametrize("target", TARGETS.names())
def test_artefacts_are_those_in_the_golden_files(target: str) -> None:
    text = artefact(target)
    golden = GOLDEN / "export" / f"{target}.txt"
    assert text == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("target", ["command", "docker", "slurm"])
def test_shellcheck_finds_nothing(target: str, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(artefact(target), encoding="utf-8")
    try:
        done = subprocess.run(["shellcheck", str(script)], capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("no shellcheck here")
    assert done.returncode == 0, done.stdout


def test_the_schemas_say_where_they_are_from() -> None:
    for path in sorted((GOLDEN / "schemas").glob("*.json")):
        comment = json.loads(path.read_text(encoding="utf-8"))["$comment"]
        assert "https://github.com/" in comment and "Apache-2.0" in comment


def test_yaml_is_safe_to_read_for_other_readers() -> None:
    text = artefact("kubernetes", deployment(config(env={"A": "1_000", "B": "0x1F", "C": "12:30"})))
    assert yaml.safe_load(text.split("---\n")[0]) == documents(text)[0]
    for value in ("1_000", "0x1F", "12:30"):
        assert f'"{value}"' in text
