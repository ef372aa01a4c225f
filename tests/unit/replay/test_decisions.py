import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agrl.config.schema import GuidanceConfig
from agrl.relevance.records import RewardMode
from replay.decisions import REASONS, UNGUIDED, Decision, count_decisions, decide_batch
from replay.outcomes import Outcome
from replay.statistics import PromptTable

from .build import group, groups, outcome, score


def decide(*groups, history=(), step=10, **cfg):
    """Decisions on groups after each prompt's history of (correct, rollouts), these groups entered as well."""
    table = PromptTable(len(groups), ema=0.5)
    for i, g in enumerate(groups):
        for correct, rollouts in history:
            table.update(i, correct, rollouts)
        valid = [s for s in g.scores if s.valid]
        if valid:
            table.update(i, sum(s.correct for s in valid), len(valid))
    cfg = GuidanceConfig(**{"max_share": 1.0, **cfg})
    told, total = [Outcome.of(g) for g in groups], sum(len(g.rollouts) for g in groups)
    return decide_batch(told, [table[i] for i in range(len(groups))], cfg, step, total)


def test_mixed_group_is_kept():
    assert decide(outcome(3, 8)) == [Decision("keep", "signal")]


def test_group_without_variance_is_dropped():
    assert decide(outcome(8, 8)) == [Decision("drop", "zero_variance")]


def test_failed_scores_are_not_zeros():
    """Two right answers and six reward time-outs: no variance, not a low accuracy."""
    right, failed = score(1.0, correct=True), score(0.0, valid=False)
    assert decide(group(right, right, *[failed] * 6)) == [Decision("drop", "zero_variance")]
    assert decide(group(failed, failed)) == [Decision("drop", "no_valid_scores")]


def test_low_accuracy_is_guided_even_where_rewards_differ():
    assert decide(group(score(0.1), score(0.3), score(0.2)), replace=2) == [Decision("guide", "low_accuracy", 2)]


@pytest.mark.parametrize(("correct", "kind"), [(0, "guide"), (1, "guide"), (2, "keep")])
def test_tau_is_inclusive(correct, kind):
    assert decide(outcome(correct, 8), tau=0.125)[0].kind == kind


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"enabled": False}, "disabled"),
        ({"step": 1, "warmup_steps": 2}, "warmup"),
        ({"history": [(8, 8)]}, "mastered"),
        ({"history": [(6, 8)]}, "unlucky"),
        ({"max_share": 0.0}, "cap"),
    ],
)
def test_group_passed_over_says_why(changes, reason):
    assert decide(outcome(0, 8), **changes) == [Decision("drop", "zero_variance", unguided=reason)]
    assert decide(outcome(1, 8), **changes) == [Decision("keep", "signal", unguided=reason)]


def test_second_bad_draw_of_a_mastered_prompt_is_guided():
    assert decide(outcome(0, 8), history=[(8, 8), (0, 8)])[0].kind == "guide"


def test_help_fades_as_the_prompt_is_mastered():
    counts = [decide(outcome(0, 8), history=[(k, 8)], replace=4)[0].count for k in range(5)]
    assert counts == [4, 4, 3, 3, 2]


def test_cap_goes_to_the_worst_then_the_longest_failing():
    table = PromptTable(3, ema=0.5)
    for prompt, history in enumerate([[2, 0], [0], [0, 0, 0]]):
        for correct in history:
            table.update(prompt, correct, 8)
    batch = [outcome(0, 8, name) for name in ("better", "new", "old")]
    cfg = GuidanceConfig(max_share=3 / 24, replace=2)
    decisions = decide_batch([Outcome.of(g) for g in batch], [table[i] for i in range(3)], cfg, 10, 24)
    counts = {g.example.id: d.count for g, d in zip(batch, decisions, strict=True)}
    assert counts == {"old": 2, "new": 1, "better": 0}


def test_decomposed_rewards_see_components_that_cancel_in_the_total():
    cancelling = group(score(0.5, a=1.0, b=0.0), score(0.5, a=0.0, b=1.0))
    assert not Outcome.of(cancelling).has_signal
    assert Outcome.of(cancelling, RewardMode.decomposed).has_signal


def test_counts_add_up_and_hold_every_reason():
    decisions = decide(outcome(0, 8, "a"), outcome(3, 8, "b"), outcome(8, 8, "c"), max_share=0.0)
    counts = count_decisions(decisions)
    assert counts["decisions/keep"] == 1 and counts["decisions/drop/zero_variance"] == 2
    assert counts["decisions/unguided/cap"] == 1 and counts["decisions/guide/low_accuracy"] == 0
    assert len(counts) == len(REASONS) + sum(map(len, REASONS.values())) + len(UNGUIDED)


@settings(max_examples=150, deadline=None)
@given(
    data=st.data(),
    n=st.integers(1, 8),
    share=st.floats(0, 1),
    tau=st.sampled_from([0.0, 0.125, 0.5, 1.0]),
    mastered=st.floats(0, 1),
)
def test_every_group_is_decided_with_a_reason_and_the_cap_holds(data, n, share, tau, mastered):
    batch = [data.draw(groups(str(i))) for i in range(n)]
    history = data.draw(st.lists(st.tuples(st.integers(0, 4), st.just(4)), max_size=4))
    replace, step = data.draw(st.integers(0, 4)), data.draw(st.integers(0, 4))
    cfg = {"max_share": share, "tau": tau, "mastered": mastered, "replace": replace}
    decisions = decide(*batch, history=history, step=step, **cfg)

    assert len(decisions) == n
    total = sum(len(g.rollouts) for g in batch)
    assert sum(d.count for d in decisions) <= share * total + 1e-6
    for g, d in zip(batch, decisions, strict=True):
        assert d.reason in REASONS[d.kind] and d.unguided in ("", *UNGUIDED)
        assert (d.count > 0) == (d.kind == "guide")
        assert d.count <= min(replace, sum(not s.correct for s in g.scores))
        assert d.kind != "keep" or Outcome.of(g).has_signal
        assert d.kind != "guide" or (step >= 2 and not d.unguided)
        if d.kind == "guide" or d.unguided:
            assert any(s.valid and not s.correct for s in g.scores)
