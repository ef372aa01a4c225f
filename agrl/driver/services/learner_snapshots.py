"""What lost learner ranks are brought back from: a snapshot of every rank, and the training calls since.

A snapshot lies in Ray's object store, on the host of its rank, whatever becomes of the rank's process. Where a host can
die without the driver's, another one keeps a copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from actors.service import Pending, Service
from agrl.config.schema import LearnerConfig
from agrl.driver.services.rank_failures import wait_for_ranks
from agrl.network import Host
from agrl.placement.snapshots import holder
from learner.snapshot import write_files

SHARE = 20  # a training without rollouts may train this many times as long as a snapshot takes before the next

TrainingCall = tuple[str, tuple]
"""A method of every rank, and its arguments."""


@dataclass(frozen=True)
class Sharding:
    """How a training is divided; what it writes can be read as it is where this is the same."""

    ranks: int
    zero_stage: int

    @classmethod
    def of(cls, learner: LearnerConfig) -> Sharding:
        """That of a configuration."""
        return cls(learner.ranks, learner.zero_stage)

    def __str__(self) -> str:
        return f"{self.ranks} rank{'s' * (self.ranks != 1)}, ZeRO {self.zero_stage}"


@dataclass
class Snapshot:
    """``parts``: of each rank, never read by the driver. ``calls``: training calls that it has in it.

    ``asked``: what tells that all of it is there, the seconds of each rank first. ``copies``: those of the driver.
    """

    parts: list[Pending]
    calls: int
    asked: dict[Pending, Service]
    copies: list[Any] = field(default_factory=list)

    def for_rank(self, rank: int, whole: bool) -> list[Pending]:
        """The arguments of ``LearnerRank.restore``. ``whole``: a rank needs nothing of another (ZeRO-3)."""
        return [self.parts[rank]] if whole or rank == 0 else [self.parts[0], self.parts[rank]]


@dataclass(frozen=True)
class LearnerCut:
    """The learner as it was at version ``version``, whatever has become of its ranks since; it saves like a learner."""

    version: int
    sharding: Sharding
    snapshot: Snapshot
    wait_s: float  # for ranks that work on it still

    def save(self, folder: Path) -> None:
        """What ``LearnerGroup.save`` wrote then. Raises LearnerLost when the ranks do not give it in time."""
        wait_for_ranks(self.snapshot.asked, self.wait_s, "snapshot")
        for part in self.snapshot.parts:
            write_files(folder, part.result())


@dataclass
class Snapshots:
    """The newest snapshot, or none: the start. ``coming``: one that the ranks work on. ``calls``: since the newest."""

    newest: Snapshot | None = None
    coming: Snapshot | None = None
    calls: list[TrainingCall] = field(default_factory=list)
    trained_s: float = 0.0  # by the calls since the last snapshot was begun
    takes_s: float = 0.0

    @property
    def current(self) -> bool:
        """Whether all that was trained is in a snapshot, or will be."""
        return len(self.calls) == (self.coming.calls if self.coming else 0)

    def of_now(self) -> Snapshot | None:
        """The one with all that was trained in it, where there is one."""
        return (self.coming or self.newest) if self.current else None

    def begin(self, ranks: Sequence[Service], hosts: Sequence[Host]) -> Snapshot:
        """Ask the ranks for one; what they are asked after that waits for it."""
        parts = [rank.call("snapshot") for rank in ranks]
        asked = {rank.call("snapshot_seconds"): rank for rank in ranks}
        for index, part in enumerate(parts):
            keeper = holder(index, hosts)
            if keeper is not None:
                asked[ranks[keeper].call("hold", index, part)] = ranks[keeper]
        self.coming, self.trained_s = Snapshot(parts, len(self.calls), asked), 0.0
        return self.coming

    def complete(self, driver: Host, hosts: Sequence[Host]) -> None:
        """All of the snapshot that was coming is there: let go of the older one."""
        newest, self.coming = self.coming, None
        seconds = [pending.result() for pending in list(newest.asked)[: len(newest.parts)]]
        if not all(seconds):
            for part in newest.parts:
                part.result()  # raises why
        if len(set(hosts)) == 1 and hosts[0] != driver:  # else ranks hold it for each other, or the driver goes with it
            newest.copies = [part.result() for part in newest.parts]
        self.newest, self.takes_s, newest.asked = newest, max(seconds), {}
        self.calls = self.calls[newest.calls :]
