"""Services: plain classes that run as Ray actors, on this machine or a cluster, or in this very process.

``Service.call`` gives a ``Pending``, a result to come. In mode ``inline`` the same interface runs the object in the
driver's process, so that a debugger steps into it: calls run at once, and nothing can time out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
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

    @abstractmethod
    def on_done(self, notice: Callable[[], Any]) -> None:
        """Call ``notice``, perhaps from another thread, once ``result`` need not wait; at once when that is so."""


class Service(ABC):
    """A running object of a plain class. ``name`` is for people; ``log_file`` holds what its process prints.

    ``taken_over``: another driver has started it, and it has outlived that one.
    """

    name: str
    log_file: Path | None = None
    taken_over = False

    @abstractmethod
    def call(self, method: str, *args: Any, **kwargs: Any) -> Pending:
        """Start ``method``; calls to one service run one after another, in order."""

    @abstractmethod
    def aside(self, method: str, *args: Any) -> Pending:
        """Start ``method`` in another thread, beside a call that takes long."""

    @abstractmethod
    def ready(self) -> Pending:
        """Done once the object is built; raises what its constructor raised."""

    def has_place(self) -> bool:
        """Whether a host has room for it: false while it waits for one."""
        return True

    def host(self) -> Host | None:
        """Where it runs, or ran; None before."""
        return None

    def who(self) -> str:
        """Its name for an error, with its host where there are several."""
        return self.name

    @abstractmethod
    def where(self) -> Pending:
        """What the process is in now: "file:function" of the Python calls under way, innermost first.

        Answered beside a call that takes long, unless the process is stopped or out of reach.
        """

    @abstractmethod
    def kill(self) -> None:
        """End the process at once; what is pending raises ServiceDied."""
