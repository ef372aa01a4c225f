"""The learner's weights as the rollout actors are given them: see ``actors.weight_sync.WeightSource``."""

from __future__ import annotations

from collections.abc import Iterator

from actors.rollout_pool import RolloutPool
from actors.service import Pending, Service
from agrl.driver.services.learners import LearnerGroup
from agrl.transport.collective import Meeting
from agrl.transport.named import FROM_EVERY_RANK
from agrl.transport.parcel import TransferFailed


def broadcast_weights(learner: LearnerGroup, rollouts: RolloutPool) -> None:
    """Give every rollout actor the parameters as they are now, without passing the driver.

    Then, while the engines use them, every rank takes a snapshot.
    """
    rollouts.broadcast(learner.version, LearnerWeights(learner))
    learner.keep()


class LearnerWeights:
    """Reads what the ranks have whenever it is read; parcels go from rank to actor and do not pass the driver."""

    def __init__(self, learner: LearnerGroup) -> None:
        self._learner = learner
        self.model_path = learner.config.model.path

    @property
    def served_beside(self) -> bool:
        return self._learner.config.model.lora_rank > 0 and self._learner.healing(
            lambda: self._learner.on_first_rank("served_beside")
        )

    @property
    def trains_meanwhile(self) -> bool:
        return self._learner.config.trainer.max_staleness > 0

    @property
    def sender(self) -> Service:
        return self._learner.ranks[0]

    def check_alive(self) -> None:
        self._learner.check_alive()

    def heal(self, error: Exception) -> None:
        self._learner.heal(error)

    def address(self) -> str:
        return self._learner.on_first_rank("rendezvous")

    def open(self, transport: str, meeting: Meeting) -> None:
        if failure := self._learner.on_first_rank("open_transport", transport, meeting):
            raise failure

    def parcels(self, transport: str, adapters: bool) -> Iterator[list[Pending]]:
        senders = self._learner.ranks if transport in FROM_EVERY_RANK else self._learner.ranks[:1]
        gathering = self._gathering(senders)
        self._learner.on_ranks(gathering, "begin_weights", transport, adapters)
        while True:
            found = self._learner.on_ranks(gathering, "next_bucket")[0]
            if isinstance(found, TransferFailed):
                raise found
            if not found:
                return
            yield [rank.call("parcel") for rank in senders]

    def send(self, transport: str, adapters: bool) -> int:
        gathering = self._gathering(self._learner.ranks[:1])
        found = self._learner.on_ranks(gathering, "send_weights", transport, adapters)[0]
        if isinstance(found, TransferFailed):
            raise found
        return found

    def _gathering(self, senders: list[Service]) -> list[Service]:
        """The ranks that take part: the others hold nothing of use."""
        return self._learner.ranks if self._learner.config.learner.zero_stage == 3 else senders
