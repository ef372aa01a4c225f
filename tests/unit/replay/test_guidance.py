from hypothesis import given, settings
from hypothesis import strategies as st

from agrl.config.schema import Accept
from agrl.relevance.records import ScoredGroup
from replay.guidance import choose_solutions, replace_worst

from .build import example, group, groups, rollout, score, transferred

SOUND = score(1.0, correct=True, sound=True)


def test_worst_is_unscored_then_lowest_then_longest():
    scores = [score(0.2), score(0.1), score(0.1), score(0.9, correct=True), score(0.0, valid=False)]
    lengths = [9, 3, 5, 9, 1]
    before = ScoredGroup(example(), [rollout(text=str(n), length=n) for n in lengths], scores)
    guided = [(transferred(f"g{i}"), SOUND) for i in range(4)]
    order = [[r.text for r in replace_worst(before, guided, k).rollouts].index(f"g{k - 1}") for k in (1, 2, 3, 4)]
    assert order == [4, 2, 1, 0]
    assert [r.text for r in before.rollouts] == ["9", "3", "5", "9", "1"]


@settings(max_examples=100, deadline=None)
@given(before=groups(), offered=st.integers(0, 5), k=st.integers(0, 5))
def test_no_correct_rollout_is_ever_replaced(before, offered, k):
    guided = [(transferred(f"guided {i}"), SOUND) for i in range(offered)]
    after = replace_worst(before, guided, k)
    wrong = sum(not s.correct for s in before.scores)
    changed = [i for i, r in enumerate(after.rollouts) if r is not before.rollouts[i]]
    assert len(after.rollouts) == len(after.scores) == len(before.rollouts)
    assert len(changed) == min(offered, k, wrong)
    assert not any(before.scores[i].correct for i in changed)
    assert all(after.scores[i] is SOUND for i in changed)
    assert all(after.scores[i] is s for i, s in enumerate(before.scores) if i not in changed)


def test_only_sound_answers_enter_distinct_texts_first():
    right_for_a_wrong_reason = score(1.0, correct=True, sound=False)
    offered = [("a", SOUND), ("a", SOUND), ("b", right_for_a_wrong_reason), ("c", SOUND)]
    candidates = [(transferred(text), s) for text, s in offered]
    assert [r.text for r, _ in choose_solutions(candidates, 2)] == ["a", "c"]
    assert [r.text for r, _ in choose_solutions(candidates, 9)] == ["a", "c", "a"]
    assert choose_solutions([(transferred("x"), right_for_a_wrong_reason)], 2) == []
    assert [r.text for r, _ in choose_solutions(candidates, 9, Accept.correct)] == ["a", "b", "c", "a"]
    assert choose_solutions([(transferred("x"), score(1.0, correct=False, sound=False))], 2, Accept.correct) == []


def test_group_of_correct_rollouts_stays_whole():
    whole = group(score(0.4, correct=True), score(0.4, correct=True))
    assert replace_worst(whole, [(transferred("g"), SOUND)], 1).rollouts == whole.rollouts
