"""The learner's ranks as one, which heals: whoever is lost, all are started anew with the weights that they had."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from actors.runtime import Runtime
from actors.service import Pending, Service
from agrl.config.schema import Config
from agrl.driver.folder.run_folder import PARTIAL
from agrl.driver.services.learner_snapshots import SHARE, LearnerCut, Sharding, Snapshots
from agrl.driver.services.rank_failures import wait_for_ranks
from agrl.errors import ActorError, AgrlError, ClusterError, LearnerError, LearnerLost
from agrl.network import this_host
from learner.rank import LearnerRank, RankSettings, StepSums

CPU_ENVIRONMENT = {"DS_ACCELERATOR": "cpu"}

T = TypeVar("T")


class LearnerRanks:
    """Data-parallel ranks. ``version`` counts the weight versions that they have produced.

    A training call that is lost with a rank is redone from the newest snapshot, so the weights are those of an
    undisturbed run. ``lost``: how often that was so; ``learner.restarts`` is the limit.
    """

    def __init__(self, runtime: Runtime, config: Config, log_dir: Path) -> None:
        self.runtime, self.config = runtime, config
        self._log_dir, self._snapshots, self.lost = log_dir, Snapshots(), 0
        self.version, self.doing = 0, "start-up"
        self.ranks = self._start()

    def _start(self) -> list[Service]:
        ranks = self._start_ranks()
        if len({rank.taken_over for rank in ranks}) == 1:
            return ranks
        for rank in ranks:  # those that were taken over are connected to one that is not there
            rank.kill()
        return self._start_ranks()

    def _start_ranks(self) -> list[Service]:
        c, ranks = self.config.learner, self.config.learner.ranks
        settings, names = rank_settings(self.config), [f"learner-{rank}" for rank in range(ranks)]
        env = {"OMP_NUM_THREADS": str(c.threads)} if c.threads else {}
        return [
            self.runtime.start(
                LearnerRank,
                name,
                settings,
                rank,
                ranks,
                env=env if c.gpus_per_rank else env | CPU_ENVIRONMENT,
                cpu_share=self.runtime.most_on_a_host(names),
                log_file=self._log_dir / f"{name}.log",
            )
            for rank, name in enumerate(names)
        ]

    def setup(self) -> str:
        """Load the model on every rank; returns a line that says so where it does not take ``learner.packing``."""
        said = self._set_up()
        self._note("serving")
        return said

    def _set_up(self) -> str:
        self._hosts = self.on_all_ranks("host")
        if self.ranks[0].taken_over:
            return self._loaded(self.on_all_ranks("packing"))
        one_host = len(set(self._hosts)) == 1
        return self._loaded(self.on_all_ranks("setup", self.on_first_rank("rendezvous"), one_host))

    def _note(self, state: str, cause: Exception | None = None) -> None:
        for rank in self.ranks:
            self.runtime.note(rank.name, state, cause)

    def restart(self, config: Config) -> str:
        """Begin another run on the same ranks: its model, a fresh optimizer, its settings; ``version`` goes on.

        Returns what ``setup`` does.
        """
        self.config, self._snapshots = config, Snapshots()
        self.version += 1
        return self._loaded(self.healing(lambda: self.on_all_ranks("start", rank_settings(config))))

    def _loaded(self, ranks: list[tuple[str, str]]) -> str:
        self.packing, reason = ranks[0]  # the configuration asks, the model decides
        path = self.config.model.path
        return f"Note: {path} is trained with learner.packing={self.packing}, because {reason}" if reason else ""

    # ---- calls ----------------------------------------------------------------------------------------------------

    def on_first_rank(self, method: str, *args: Any) -> Any:
        """A call that rank 0 alone is to answer."""
        return self.on_ranks(self.ranks[:1], method, *args)[0]

    def on_all_ranks(self, method: str, *args: Any) -> list[Any]:
        """A call that every rank is to answer."""
        return self.on_ranks(self.ranks, method, *args)

    def on_ranks(self, ranks: Sequence[Service], method: str, *args: Any) -> list[Any]:
        """A call that some ranks are to answer."""
        self.doing = method.replace("_", " ")
        return self._gather({rank.call(method, *args): rank for rank in ranks})

    def _gather(self, calls: dict[Pending, Service]) -> list[Any]:
        """All answers, in order; the first that fails ends the group: the others would wait for it in a collective."""
        self._wait(calls)
        return [pending.result() for pending in calls]

    def _wait(self, calls: dict[Pending, Service]) -> None:
        try:
            wait_for_ranks(calls, self.config.learner.timeout_s, self.doing)
        except Exception:
            self.close()
            raise

    def _train(self, method: str, batch: Any, plan: Any, *args: Any) -> list[StepSums]:
        """A call about a batch that changes the weights: they become the next version."""
        call = method, (self.runtime.put(batch), self.runtime.put(plan), *args)

        def train() -> list[StepSums]:
            self._settle()
            return self.on_all_ranks(call[0], *call[1])

        began = time.perf_counter()
        sums = self.healing(train)
        self.version += 1
        if self.heals:
            self._snapshots.calls.append(call)
            self._snapshots.trained_s += time.perf_counter() - began
        return sums

    def _on_batch(self, method: str, batch: Any, plan: Any, *args: Any) -> list[Any]:
        """A call to every rank about one batch and its plan: both are stored once, however many ranks read them."""
        stored = self.runtime.put(batch), self.runtime.put(plan)
        return self.healing(lambda: self.on_all_ranks(method, *stored, *args))

    def close(self) -> None:
        for rank in self.ranks:
            rank.kill()

    # ---- snapshots ------------------------------------------------------------------------------------------------

    @property
    def heals(self) -> bool:
        return self.config.learner.restarts > 0 and self.runtime.mode != "inline"

    def keep(self) -> None:
        """Let the ranks take a snapshot, unless there is one of what they have; it goes on when this returns."""
        if self.heals and not self._snapshots.current:
            self.healing(self._begin_snapshot)

    def cut(self, wait_s: float) -> LearnerCut | None:
        """What the ranks have now, to be saved later; None where there is no snapshot of it."""
        found = self._snapshots.of_now() if self.heals else None
        return found and LearnerCut(self.version, self.sharding, found, wait_s)

    def _keep_at_times(self) -> None:
        """The same where there are no rollouts, in whose time a snapshot would cost nothing: now and then."""
        if self._snapshots.trained_s >= SHARE * self._snapshots.takes_s:
            self.keep()

    def _begin_snapshot(self) -> None:
        self._settle()
        self._snapshots.begin(self.ranks, self._hosts)

    def _settle(self) -> None:
        """Wait for the snapshot that is under way: it is the newest from now on."""
        if coming := self._snapshots.coming:
            self.doing = "snapshot"
            self._wait(coming.asked)
            self._snapshots.complete(this_host(), self._hosts)

    @property
    def sharding(self) -> Sharding:
        return Sharding.of(self.config.learner)

    def _loaded_from(self, folder: Path, written_by: Sharding) -> Snapshots:
        """Restore a checkpoint, and take a snapshot of it: the folder may not stay."""
        if written_by == self.sharding:
            self.on_all_ranks("load", str(folder.absolute()))
        else:
            self._resharded(folder, written_by)
        found = Snapshots()
        if self.heals:
            self.doing = "snapshot"
            self._wait(found.begin(self.ranks, self._hosts).asked)
            found.complete(this_host(), self._hosts)
        return found

    def _resharded(self, folder: Path, written_by: Sharding) -> None:
        """Restore what other ranks, or another ZeRO stage, wrote. Raises LearnerError where that fails."""
        place = folder.with_suffix(PARTIAL)
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        try:
            self.on_all_ranks("load_resharded", str(folder.absolute()), str(place.absolute()))
        except AgrlError:
            raise
        except Exception as error:
            raise LearnerError(
                f"{folder}, written by {written_by}, cannot be restored on {self.sharding}: {error}",
                hint=f"resume with learner.ranks={written_by.ranks} learner.zero_stage={written_by.zero_stage}",
            ) from error
        finally:
            shutil.rmtree(place, ignore_errors=True)

    # ---- healing --------------------------------------------------------------------------------------------------

    def healing(self, work: Callable[[], T]) -> T:
        """What ``work`` returns, which is done again from its beginning whenever a rank is lost."""
        while True:
            try:
                return work()
            except (LearnerLost, ActorError) as error:
                self.heal(error)

    def heal(self, error: Exception) -> None:
        """Start all ranks anew, with the weights that they had, where ``error`` comes of a lost one; else raise it.

        Raises LearnerLost when that was so too often, ClusterError when no host has room.
        """
        lost = error if isinstance(error, LearnerLost) else self._lost_rank()
        while True:
            if lost is None or not self.heals:
                raise lost or error
            self.lost += 1
            if self.lost > self.config.learner.restarts:
                raise LearnerLost(
                    f"learner ranks were lost {self.lost} times, more than learner.restarts="
                    f"{self.config.learner.restarts} allows; last: {lost}",
                    hint=lost.hint,
                ) from error
            say = "%s; all ranks are started anew, with the weights of version %d"
            logging.getLogger(__name__).warning(say, lost, self.version)
            self._note("dead", lost)
            try:
                self._start_again()
                return self._note("serving")
            except LearnerLost as again:
                lost = again

    def _lost_rank(self) -> LearnerLost | None:
        try:
            self._check_ranks()
        except LearnerLost as lost:
            return lost
        return None

    def check_alive(self) -> None:
        """Heal where a rank has died while there was nothing for it to do. Raises LearnerError."""
        self.healing(self._check_ranks)

    def _check_ranks(self) -> None:
        self.doing = "rollouts"
        self._gather({rank.call("host"): rank for rank in self.ranks})

    def _start_again(self) -> None:
        self.close()
        self._snapshots.coming = None
        self.ranks = self._start()
        self._wait_for_places()
        self._set_up()
        if newest := self._snapshots.newest:
            whole = self.config.learner.zero_stage == 3
            self.doing = "restore"
            parts = [newest.for_rank(rank, whole) for rank in range(len(self.ranks))]
            self._gather({rank.call("restore", *own): rank for rank, own in zip(self.ranks, parts, strict=True)})
        for method, args in self._snapshots.calls:
            self.on_all_ranks(method, *args)

    def _wait_for_places(self) -> None:
        """Until every rank has been built: a host with room for it may have to come back first."""
        limit = self.config.learner.timeout_s
        deadline = time.monotonic() + limit
        for rank in self.ranks:
            try:
                rank.ready().result(max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                if rank.has_place():
                    raise LearnerLost(f"{rank.who()} was not ready within learner.timeout_s={limit:g} s") from None
                raise ClusterError(
                    f"{rank.name} found no place within learner.timeout_s={limit:g} s: no host has room for it",
                    hint="a host may have left the cluster, or another job holds its room: `ray status` says more",
                ) from None
            except ActorError as error:
                raise LearnerLost(str(error), hint=error.hint) from error


def rank_settings(config: Config) -> RankSettings:
    """What a rank is built from."""
    c = config.learner
    return RankSettings(
        model_path=config.model.path,
        dtype=config.model.dtype,
        zero_stage=c.zero_stage,
        lr=c.lr,
        weight_decay=c.weight_decay,
        max_grad_norm=c.max_grad_norm,
        gradient_checkpointing=config.model.gradient_checkpointing,
        lora_rank=config.model.lora_rank,
        lora_alpha=config.model.lora_alpha,
        seed=config.trainer.seed,
        threads=c.threads,
        timeout_s=c.timeout_s,
        reference=c.kl_coef > 0,
        packing=c.packing.value,
    )
