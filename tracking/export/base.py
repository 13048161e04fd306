"""What a target of `servetune export` is: a place a trial is deployed to, and its one file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from runtimes.registry import Registry
from tracking.export._deployment import Deployment


@dataclass(frozen=True, slots=True)
class Settings:
    """What a user may choose about an artefact.

    Attributes:
        name: of what is deployed, a DNS label.
        host: address that is listened on, or published.
        port: of the service.
        replicas: copies of the deployment that share the load.
        namespace: Kubernetes namespace; empty for the one at hand.
        image: container image; empty for the one that the trial was measured in, else the
            engine's official one.
    """

    name: str
    host: str = "127.0.0.1"
    port: int = 8000
    replicas: int = 1
    namespace: str = ""
    image: str = ""


class Target(ABC):
    """One way to deploy a trial. Stateless and pure: equal deployments give equal text.

    Class attributes:
        name: the registered name.
        filename: what its file is called in a folder.
        use: how the file is used, with `{file}` in place of its name.
        options: names of the `Settings` that it heeds; the name of what is deployed apart.
    """

    name: ClassVar[str]
    filename: ClassVar[str]
    use: ClassVar[str]
    options: ClassVar[frozenset[str]]

    @abstractmethod
    def render(self, deployment: Deployment, settings: Settings) -> str:
        """The file's text, comments on what to know first.

        Raises:
            UserError: the target cannot serve this trial; the message says which can.
        """


TARGETS: Registry[type[Target]] = Registry(
    "target", package="tracking.export", group="servetune.export_targets"
)
"""Every target by name. Use `create_target` for an instance."""


def create_target(name: str) -> Target:
    """An instance of the target called `name`.

    Raises:
        UnknownNameError: there is none.
    """
    return TARGETS.get(name)()
