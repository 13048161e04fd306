"""From an engine's configuration to the deployment that a prediction is asked of."""

from __future__ import annotations

from runtimes.engines.base import create_engine
from runtimes.hardware import Accelerator
from runtimes.model import ModelFacts
from runtimes.plan import EngineConfig
from search.perfmodel.question import Configuration, Speculation
from search.perfmodel.spread import spread_of

ACCEPTANCE = 0.7
"""Share of drafted tokens that is accepted where nobody says: drafters trained for their model
reach 0.6 to 0.9 on chats (EAGLE-3, arXiv 2503.01840; DeepSeek-V3, arXiv 2412.19437), n-gram
lookup far less on text that repeats nothing."""


def configuration_of(
    config: EngineConfig,
    model: ModelFacts,
    accelerator: Accelerator,
    *,
    acceptance: float = ACCEPTANCE,
) -> Configuration:
    """What `config` comes to; a simulation is predicted as the engine it imitates.

    `acceptance` is the share of drafted tokens that is accepted, in [0, 1]: each draft given that
    the one before it was. It only says something where `config` speculates.

    Raises:
        UnknownNameError: no engine has that name.
    """
    name = str(config.options.get("imitates", config.engine))
    engine = create_engine(config.engine)
    limits = engine.serving_limits(config, model, accelerator)
    drafts = limits.draft_tokens
    return Configuration(
        model=model,
        accelerator=accelerator,
        engine=name,
        spread=spread_of(name, engine.layout(config), model),
        quantization=engine.precision(config, model),
        limits=limits,
        speculation=Speculation(draft_tokens=drafts, acceptance=acceptance) if drafts else None,
    )
