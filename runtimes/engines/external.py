"""A server that runs already, reached by its URL: measured, never started and never stopped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from runtimes.engines.base import ENGINES, Engine, EngineReport, Refusal, create_engine
from runtimes.engines.vllm import VllmEngine
from runtimes.errors import UserError
from runtimes.hardware import Accelerator
from runtimes.json_types import Json
from runtimes.load.address import ServerAddress
from runtimes.model import ModelFacts
from runtimes.parallel import ParallelLayout
from runtimes.plan import DeploymentPlan, EngineConfig, Environment

_EXAMPLE = "http://127.0.0.1:8000"


@ENGINES.register("external")
class ExternalEngine(Engine):
    """Any server of the OpenAI completions API.

    Which engine it is shows in the names of its metrics; a server without metrics is measured
    all the same, from its answers alone.

    Options:
        url: where its routes are, as `http://HOST:PORT`, or with the path that they begin with
            (required).
        gpus: GPUs behind it, for figures per GPU.
        drop_fields: fields of `droppable` that it refuses. Without them it decides for itself how
            to sample, or when to end an answer.
    """

    name: ClassVar[str] = "external"
    options: ClassVar[Mapping[str, Json]] = {"url": "", "gpus": 1, "drop_fields": []}
    required_options: ClassVar[Mapping[str, Json]] = {"url": _EXAMPLE}
    attaches: ClassVar[bool] = True
    loads_model: ClassVar[bool] = False
    api_key_env: ClassVar[str | None] = "OPENAI_API_KEY"
    request_fields: ClassVar[Mapping[str, Json]] = {
        "temperature": 0.0,
        "top_p": 1.0,
        # What stands for "off" differs between engines; the likeliest token alone is greedy.
        "top_k": 1,
        "ignore_eos": True,
    }
    droppable: ClassVar[tuple[str, ...]] = (*request_fields, "min_tokens")
    metrics: ClassVar[Mapping[str, str]] = VllmEngine.metrics

    def gpus(self, layout: ParallelLayout) -> int:
        """One, unless the option `gpus` says otherwise: a layout says nothing of it."""
        return 1

    def plan(self, config: EngineConfig) -> DeploymentPlan:
        """No process; `deploy` is empty, since what serves is somebody else's.

        Raises:
            UserError: `url` is missing or none, `gpus` is not positive, or `drop_fields` names
                what is no field of `droppable`.
        """
        gpus = config.options.get("gpus", 1)
        if not isinstance(gpus, int) or gpus < 1:
            raise UserError(f"external: option gpus is a number from 1, got {gpus!r}")
        url = base_url(config.options.get("url", ""))
        dropped = self._dropped(config.options.get("drop_fields", []))
        effective: dict[str, Json] = {"engine": self.name, "attach": url, "model": config.model}
        if dropped:
            effective["dropped_fields"] = [*sorted(dropped)]
        return DeploymentPlan(
            engine=self.name,
            processes=(),
            deploy=(),
            secrets=config.secrets,
            attach=url,
            attached_gpus=gpus,
            dropped_fields=dropped,
            effective=effective,
        )

    def refuse(
        self, config: EngineConfig, model: ModelFacts | None, accelerator: Accelerator | None
    ) -> Refusal | None:
        given = {
            "parallel": str(config.layout) if config.layout.used else "",
            "quantization": str(config.quantization) if config.quantization.used else "",
            "args": ", ".join(sorted(config.args)),
            "env": ", ".join(sorted(config.env)),
            "environment": "an interpreter" if config.environment != Environment() else "",
        }
        for section, words in given.items():
            if words:
                return Refusal(
                    "runs_already",
                    f"the server runs already and is what it is: {section} ({words}) cannot "
                    f"change it; valid: nothing under {section}",
                )
        return None

    def describe(self, *, log: str, metrics_text: str, version_json: str) -> EngineReport:
        """What the engine that it turns out to be says of itself."""
        found = self._engine_of(metrics_text)
        if found is None:
            return EngineReport()
        return found.describe(log=log, metrics_text=metrics_text, version_json=version_json)

    def read_metrics(self, body: str) -> dict[str, tuple[str, float]]:
        found = self._engine_of(body)
        return {} if found is None else found.read_metrics(body)

    def _dropped(self, fields: Json) -> frozenset[str]:
        names = fields if isinstance(fields, list) else [fields]
        unknown = [name for name in names if name not in self.droppable]
        if unknown:
            raise UserError(
                f"external: option drop_fields: requests can do without "
                f"{', '.join(self.droppable)}, got {unknown[0]!r}"
            )
        return frozenset(map(str, names))

    def _engine_of(self, body: str) -> Engine | None:
        """The engine that can read most of `body`; None where none can read anything."""
        engines = [create_engine(name) for name in ENGINES.names()]
        most, best = 0, None
        for engine in engines:
            if not engine.attaches and len(found := engine.read_metrics(body)) > most:
                most, best = len(found), engine
        return best


def base_url(url: Json) -> str:
    """`url` with its port, and without `/v1` at its end.

    Raises:
        UserError: it is missing or is no such URL.
    """
    if not isinstance(url, str) or not url:
        raise UserError(f"external: option url is missing; write where it listens: url: {_EXAMPLE}")
    try:
        return ServerAddress.of(url).url
    except ValueError as error:
        raise UserError(f"external: option url: {error}; write {_EXAMPLE}") from None
