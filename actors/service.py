"""Services: plain classes that run as Ray actors, on this machine or a cluster, or in this very process.

``Service.call`` gives a ``Pending`` (a result to come), ``Service.stream`` a ``Stream`` of them from a generator
method. In mode ``inline`` the same interface runs the object in the driver's process, so that a debugger steps into it:
calls run at once, generators advance when they are read, and nothing can time out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agrl.errors import ActorError
from agrl.network import Host


class ServiceDied(ActorError):
    """The process of a service is gone. The message names the service and the cause, the hint its log."""


class Pending(ABC):
    """A result to come. As an argument of another call it travels as its value, without passing through the driver."""

    @abstractmethod
    def result(self, timeout: float | None = None) -> Any:
        """The value; waits for it at most ``timeout`` seconds.

        Raises TimeoutError, ServiceDied when the process is gone, and whatever the method raised, as itself.
        """


class Stream(ABC):
    """The results of a generator method, each a ``Pending``, in the order in which they are yielded."""

    def __iter__(self) -> Iterator[Pending]:
        return self

    @abstractmethod
    def __next__(self) -> Pending:
        """The next result; waits until there is one. Raises ServiceDied when the process is gone."""


class Service(ABC):
    """A running object of a plain class. ``name`` is for people; ``log_file`` holds what its process prints."""

    name: str
    log_file: Path | None = None

    @abstractmethod
    def call(self, method: str, *args: Any, **kwargs: Any) -> Pending:
        """Start ``method``; calls to one service run one after another, in order."""

    @abstractmethod
    def stream(self, method: str, *args: Any, **kwargs: Any) -> Stream:
        """Start the generator method ``method``."""

    @abstractmethod
    def ready(self) -> Pending:
        """Done once the object is built; raises what its constructor raised."""

    def host(self) -> Host | None:
        """Where it runs, or ran; None while it waits for a place."""
        return None

    @abstractmethod
    def where(self) -> Pending:
        """What the process is in now: "file:function" of the Python calls under way, innermost first.

        Answered beside a call that takes long, unless the process is stopped or out of reach.
        """

    @abstractmethod
    def kill(self) -> None:
        """End the process at once; what is pending raises ServiceDied."""
