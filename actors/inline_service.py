"""Services in the driver's own process, without Ray: the same behaviour, seen by a debugger."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from actors.service import Pending, Service, ServiceDied
from agrl.network import Host, this_host


class InlineService(Service):
    """A plain object behind the interface of a service."""

    def __init__(self, cls: type, name: str, args: tuple, kwargs: dict) -> None:
        self.name = name
        self._dead = False
        self._built = InlinePending.of(lambda: cls(*args, **kwargs))

    def call(self, method: str, *args: Any, **kwargs: Any) -> Pending:
        return InlinePending.of(lambda: self._method(method)(*map(_unwrap, args), **kwargs))

    def aside(self, method: str, *args: Any) -> Pending:
        return self.call(method, *args)

    def ready(self) -> Pending:
        return self._built

    def host(self) -> Host:
        return this_host()

    def where(self) -> Pending:
        return InlinePending([])  # no call is ever under way when somebody asks

    def kill(self) -> None:
        self._dead = True

    def _method(self, method: str) -> Callable[..., Any]:
        if self._dead:
            raise ServiceDied(f"{self.name} died: killed")
        return getattr(self._built.result(), method)


class InlinePending(Pending):
    """A result that is there already, or the error in its place."""

    def __init__(self, value: Any = None, error: Exception | None = None) -> None:
        self._value, self._error = value, error

    @classmethod
    def of(cls, compute: Callable[[], Any]) -> InlinePending:
        try:
            return cls(compute())
        except Exception as error:  # raised where the result is asked for, as with Ray
            return cls(error=error)

    def result(self, timeout: float | None = None) -> Any:
        if self._error is not None:
            raise self._error
        return self._value

    def on_done(self, notice: Callable[[], Any]) -> None:
        notice()


def _unwrap(value: Any) -> Any:
    return value.result() if isinstance(value, Pending) else value
