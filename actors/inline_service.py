"""Services in the driver's own process, without Ray: the same behaviour, seen by a debugger."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from actors.service import Pending, Service, ServiceDied, Stream
from agrl.network import Host, this_host


class InlineService(Service):
    """A plain object behind the interface of a service."""

    def __init__(self, cls: type, name: str, args: tuple, kwargs: dict) -> None:
        self.name = name
        self._dead = False
        self._built = InlinePending.of(lambda: cls(*args, **kwargs))

    def call(self, method: str, *args: Any, **kwargs: Any) -> Pending:
        return InlinePending.of(lambda: self._method(method)(*map(_unwrap, args), **kwargs))

    def stream(self, method: str, *args: Any, **kwargs: Any) -> Stream:
        return InlineStream(self, lambda: self._method(method)(*map(_unwrap, args), **kwargs))

    def ready(self) -> Pending:
        return self._built

    def host(self) -> Host:
        return this_host()

    def where(self) -> Pending:
        return InlinePending([])  # no call is ever under way when somebody asks

    def kill(self) -> None:
        self._dead = True

    def check_alive(self) -> None:
        """Raises ServiceDied after ``kill``."""
        if self._dead:
            raise ServiceDied(f"{self.name} died: killed")

    def _method(self, method: str) -> Callable[..., Any]:
        self.check_alive()
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


class InlineStream(Stream):
    """A generator that advances by one item each time it is read."""

    def __init__(self, service: InlineService, start: Callable[[], Iterator[Any]]) -> None:
        self._service, self._start = service, start
        self._items: Iterator[Any] | None = None
        self._failed = False

    def __next__(self) -> Pending:
        if self._failed:
            raise StopIteration
        try:
            self._service.check_alive()
            self._items = iter(self._start()) if self._items is None else self._items
            return InlinePending(next(self._items))
        except StopIteration:
            raise
        except Exception as error:
            self._failed = True
            return InlinePending(error=error)


def _unwrap(value: Any) -> Any:
    return value.result() if isinstance(value, Pending) else value
