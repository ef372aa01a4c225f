"""What the driver asks of how many learner ranks: its work must not grow with them where that is not needed."""

from types import SimpleNamespace
from typing import Any

import pytest

from actors.inline_service import InlinePending
from actors.service import Pending
from agrl.driver.services.learner_weights import LearnerWeights
from agrl.driver.services.learners import LearnerGroup
from agrl.transport.parcel import TransferFailed

RANKS = 5


class Rank:
    """Notes how it is called; has two buckets."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple]] = []
        self.buckets, self.sends = 2, 7

    def call(self, method: str, *args: Any) -> Pending:
        self.calls.append((method, args))
        if method == "next_bucket":
            self.buckets -= 1
            return InlinePending(self.buckets >= 0)
        if method == "send_weights":
            return InlinePending(self.sends)
        return InlinePending({})

    def methods(self) -> list[str]:
        return [method for method, _ in self.calls]


def group(zero_stage: int = 0) -> LearnerGroup:
    made = LearnerGroup.__new__(LearnerGroup)
    made.ranks = [Rank() for _ in range(RANKS)]
    learner = SimpleNamespace(timeout_s=1.0, zero_stage=zero_stage, restarts=3)
    made.config = SimpleNamespace(learner=learner, model=SimpleNamespace(path="model", lora_rank=0))
    made.runtime = SimpleNamespace(put=InlinePending, mode="local")
    return made


@pytest.mark.parametrize(("zero_stage", "transport", "asked"), [(2, "object_store", 1), (3, "object_store", RANKS)])
def test_only_ranks_that_have_to_gather_are_asked_for_a_bucket(zero_stage, transport, asked):
    learner = group(zero_stage)
    parcels = list(LearnerWeights(learner).parcels(transport, adapters=False))
    assert [len(senders) for senders in parcels] == [1, 1]
    for number, rank in enumerate(learner.ranks):
        assert rank.methods().count("next_bucket") == (3 if number < asked else 0)


@pytest.mark.parametrize(("zero_stage", "asked"), [(2, 1), (3, RANKS)])
def test_all_buckets_along_a_group_are_one_call_to_each_rank_that_gathers(zero_stage, asked):
    learner = group(zero_stage)
    assert LearnerWeights(learner).send("collective", adapters=True) == 7
    calls = [rank.calls for rank in learner.ranks]
    assert calls == [[("send_weights", ("collective", True))]] * asked + [[]] * (RANKS - asked)


def test_a_group_that_broke_is_raised_and_ends_no_rank():
    learner = group()
    learner.ranks[0].sends = TransferFailed("the broadcast of bucket 3 failed")
    with pytest.raises(TransferFailed, match="bucket 3"):
        LearnerWeights(learner).send("collective", adapters=False)


def test_every_rank_sends_within_a_shared_gpu():
    learner = group()
    assert [len(senders) for senders in LearnerWeights(learner).parcels("ipc", adapters=False)] == [RANKS, RANKS]
    assert all(rank.methods().count("parcel") == 2 for rank in learner.ranks)


def test_a_batch_and_its_plan_are_stored_once_for_all_ranks():
    learner, stored = group(), []

    def put(value: Any) -> Pending:
        stored.append(value)
        return InlinePending(value)

    learner.runtime.put = put
    learner._on_batch("train_policy", ["a batch"], ["its plan"], 0.5)
    assert stored == [["a batch"], ["its plan"]]
    given = [rank.calls[0][1] for rank in learner.ranks]
    assert all(one[0] is given[0][0] and one[1] is given[0][1] and one[2] == 0.5 for one in given)
