"""What the supervised start imitates, and in which order."""

from types import SimpleNamespace

import numpy as np
import pytest

from agrl.algorithms.batch import TrainSequence
from agrl.driver.experiments.sft import digest, references, shuffled_batches
from agrl.errors import DataError
from agrl.relevance.records import Example, Judgement, Product
from agrl.relevance.rulebook import load_rulebook

REFERENCE = Judgement(4, {"category": "same", "attributes": "met"}, {"query": "mug", "product": "mug"})


class FakeEncoder:
    """A prompt is its hint level, a response its tier; both as long as that number says."""

    book = load_rulebook("relevance")
    task = SimpleNamespace(max_prompt_tokens=3, max_response_tokens=4)

    def prompt(self, example, hint_level=0):
        return np.full(hint_level + 1, hint_level, np.int32)

    def response(self, judgement):
        return "", np.full(judgement.tier, judgement.tier, np.int32)


def row(hint_level=0, reference=REFERENCE):
    return Example(f"r{hint_level}", "mug", Product("a mug"), 4, reference=reference, hint_level=hint_level)


def prompts(sequences):
    return [s.prompt_ids.tolist() for s in sequences]


def test_hinted_rows_are_imitated_under_their_hint_unless_they_are_left_out():
    rows = [row(0), row(2)]
    assert prompts(references(rows, FakeEncoder()).sequences) == [[0], [2, 2, 2]]
    found = references(rows, FakeEncoder(), hints=False)
    assert prompts(found.sequences) == [[0]] and str(found) == "1 references (1 row with a hint: left out)"


def test_rows_that_do_not_fit_are_left_out_and_nothing_left_is_an_error():
    encoder = FakeEncoder()
    assert prompts(references([row(0), row(3)], encoder).sequences) == [[0]]
    with pytest.raises(DataError, match=r"none of 1 rows .*1 row longer than task\.max_prompt_tokens: left out"):
        references([row(3)], encoder)


def test_what_is_left_out_is_counted_by_its_reason():
    contradiction = {"category": "unrelated", "attributes": "met"}  # no judgement of tier 4 has these verdicts
    unjudged = Example("u", "mug", Product("a mug"), 4, contradiction)
    long_answer = SimpleNamespace(max_prompt_tokens=3, max_response_tokens=3)
    encoder = FakeEncoder()
    found = references([row(0), row(3), row(3), unjudged], encoder)
    assert found.left_out == {"longer than task.max_prompt_tokens": 2, "without a judgement": 1}
    assert str(found).startswith("1 references (2 rows longer than task.max_prompt_tokens, 1 row without a judgement")
    encoder.task = long_answer
    with pytest.raises(DataError, match="1 row with an answer longer than"):
        references([row(0)], encoder)


def test_other_examples_have_another_digest():
    def sequence(prompt, response):
        ids = np.array(prompt, np.int32), np.array(response, np.int32)
        return TrainSequence(*ids, np.zeros(len(response), np.float32))

    rows = [sequence([1, 2], [3]), sequence([4], [5])]
    others = [rows[::-1], rows[:1], [sequence([1], [2, 3]), rows[1]], [sequence([1, 2], [9]), rows[1]], []]
    assert digest(rows) == digest([sequence([1, 2], [3]), sequence([4], [5])])
    assert len({digest(rows), *map(digest, others)}) == 6


def test_every_epoch_has_every_sequence_once_in_an_order_of_its_own():
    batches = list(shuffled_batches(list(range(6)), 4, 6, seed=0))
    flat = [i for batch in batches for i in batch]
    epochs = [flat[i : i + 6] for i in range(0, 24, 6)]
    assert [len(b) for b in batches] == [4] * 6 and all(sorted(e) == list(range(6)) for e in epochs)
    assert len({tuple(e) for e in epochs}) > 1
    assert batches == list(shuffled_batches(list(range(6)), 4, 6, seed=0))
