"""What lets services outlive the driver that started them: a secret of the run, and a time. Knows nothing of Ray."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import Any

from agrl.errors import ActorError

KINDS = ("learner", "rollout")  # of services that are worth it: minutes to start, where the others take seconds


@dataclass(frozen=True)
class Lease:
    """``secret``: who knows it may take the services over. ``seconds``: for which they wait for somebody when their
    driver is gone. ``code``: a digest of what they run. ``patience_s``: how long a service may be busy with what its
    driver asked last, before another one in its place is quicker."""

    secret: str
    seconds: float
    code: str = ""
    patience_s: float = 60.0

    @property
    def namespace(self) -> str:
        """Of the services' names in Ray. Everybody can see it, and cannot tell the secret from it."""
        return "agrl-" + hashlib.sha256(self.secret.encode()).hexdigest()[:16]

    def covers(self, name: str) -> bool:
        """Whether a service of this name is one that outlives its driver."""
        return name.rpartition("-")[0] in KINDS

    def fingerprint(self, *made_of: Any) -> str:
        """A digest of what a service is made of: of the text of it, which is the same in another process."""
        return hashlib.sha256(f"{self.code} {made_of!r}".encode()).hexdigest()[:16]


class Absence:
    """Whether somebody has been away for ``seconds``."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._since = seconds, None

    def too_long(self, there: bool, now: float) -> bool:
        """``there``: whether they are, ``now`` (s)."""
        if there:
            self._since = None
            return False
        self._since = now if self._since is None else self._since
        return now - self._since >= self._seconds


def replaced(name: str) -> ActorError:
    return ActorError(
        f"{name} belongs to another driver of this run, which has taken over",
        hint="one driver at a time goes on with a run: this one was taken for gone; the other one has all that it had",
    )


class Holder:
    """In a service's process: whose calls it answers. ``secret``: "" of one that ends with its driver."""

    def __init__(self, driver: str, secret: str, fingerprint: str) -> None:
        self._driver, self._secret, self._fingerprint = driver, secret, fingerprint

    def check(self, driver: str) -> None:
        """Raise ActorError for a call of a driver that another one has taken over from: it may come late."""
        if driver != self._driver:
            raise replaced("this actor")

    def change(self, secret: str, driver: str) -> str:
        """From now on it answers another driver. Returns what it is made of.

        Raises ActorError for somebody who does not know the secret.
        """
        if not self._secret or not secrets.compare_digest(secret, self._secret):
            raise ActorError("only the run that started it can take it over")
        self._driver = driver
        return self._fingerprint
