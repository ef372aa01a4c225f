import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agrl.config.schema import GuidanceConfig, ReplayConfig, Sampling
from agrl.data.pool import Pool
from agrl.errors import ConfigError, DataError
from agrl.relevance.records import Product
from replay.core import GuideOutcome, ReplayCore
from replay.outcomes import Outcome

from .build import example, group, outcome, score

POOL = 11


def core(sampling=Sampling.difficulty, seed=0, **guidance):
    examples = [example(f"p{i}") for i in range(POOL)]
    return ReplayCore(Pool.of(examples), ReplayConfig(sampling=sampling), GuidanceConfig(**guidance), 8, seed)


def observe(replay, groups, step):
    return replay.observe([Outcome.of(group) for group in groups], step)


def play(replay, steps, n=4):
    """What a policy of fixed skill makes the replay core do: the ids, the decisions and the metrics of every step."""
    seen = []
    for step in steps:
        skill = np.random.default_rng(step)
        groups = [outcome(int(skill.integers(0, 9)), 8, x.id) for x in replay.sample(n, step)]
        decisions = observe(replay, groups, step)
        guided = [g.example.id for g, d in zip(groups, decisions, strict=True) if d.kind == "guide"]
        replay.guided({name: GuideOutcome(solved=True, level=1 + step % 2, replaced=1) for name in guided})
        seen.append(([g.example.id for g in groups], decisions, replay.metrics()))
    return seen


@settings(max_examples=25, deadline=None)
@given(before=st.integers(0, 12), n=st.integers(1, POOL), sampling=st.sampled_from(Sampling))
def test_resumed_run_goes_on_exactly(before, n, sampling, tmp_path_factory):
    folder = tmp_path_factory.mktemp("replay")
    original, resumed = core(sampling), core(sampling, seed=99)
    play(original, range(before), n)
    original.save(folder / "a.npz")
    resumed.load(folder / "a.npz")
    rest = range(before, before + 8)
    assert play(resumed, rest, n) == play(original, rest, n)
    original.save(folder / "a.npz")
    resumed.save(folder / "b.npz")
    with np.load(folder / "a.npz") as one, np.load(folder / "b.npz") as other:
        assert one.files == other.files and all(np.array_equal(one[name], other[name]) for name in one.files)


@pytest.mark.parametrize("sampling", Sampling)
def test_what_is_too_long_is_never_drawn_again_also_after_a_resume(sampling, tmp_path):
    replay = core(sampling)
    drawn = [x.id for x in replay.sample(4, step=0)]
    replay.leave_out(drawn[:2], step=0)
    assert not {x.id for x in replay.sample(POOL - 4, step=0)} & set(drawn)
    assert replay.metrics()["replay/too_long"] == 2
    replay.save(tmp_path / "replay.npz")
    resumed = core(sampling, seed=9)
    resumed.load(tmp_path / "replay.npz")
    for step in range(1, 9):
        assert not {x.id for x in resumed.sample(POOL - 2, step)} & set(drawn[:2])
    with pytest.raises(ConfigError, match=rf"has {POOL}, 2 of them longer than task.max_prompt_tokens"):
        resumed.sample(POOL - 1, step=9)


def test_same_seed_same_run_and_another_seed_another():
    assert play(core(), range(5)) == play(core(), range(5))
    assert play(core(), range(5)) != play(core(seed=1), range(5))


def test_failed_scoring_says_nothing_about_the_prompt():
    replay = core()
    replay.sample(POOL, step=5)
    failed = group(score(0.0, valid=False), score(0.0, valid=False), example_id="p0")
    assert [d.reason for d in observe(replay, [failed], step=5)] == ["no_valid_scores"]
    assert replay.metrics()["replay/tried"] == 0
    replay.sample(POOL, step=6)
    half = group(score(1.0, correct=True), score(0.0, valid=False), example_id="p0")
    observe(replay, [half], step=6)
    assert replay.metrics()["replay/accuracy_mean"] == 1.0


def test_metrics_of_a_step():
    replay = core(max_share=1.0, warmup_steps=0)
    replay.sample(POOL, step=0)
    groups = [outcome(0, 8, "p0"), outcome(0, 8, "p1"), outcome(8, 8, "p2"), outcome(4, 8, "p3")]
    assert [d.kind for d in observe(replay, groups, step=0)] == ["guide", "guide", "drop", "keep"]
    assert replay.metrics()["guide/solved"] == 0
    replay.guided({"p0": GuideOutcome(True, 3, replaced=2), "p1": GuideOutcome(False, 3)})
    metrics = replay.metrics()
    assert metrics["group/all_wrong"] == 0.5 and metrics["group/all_right"] == 0.25
    assert metrics["group/zero_advantage"] == 0.75
    assert (metrics["guide/solved"], metrics["guide/level_mean"]) == (1, 3)
    assert metrics["guide/share"] == pytest.approx(2 / 32)
    assert metrics["replay/tried"] == pytest.approx(4 / POOL) and metrics["replay/guided_prompts"] == 2
    assert all(isinstance(value, float) for value in metrics.values())


def test_good_answers_are_kept_for_replay():
    replay = core()
    replay.sample(POOL, step=0)
    observe(replay, [outcome(2, 8, "p0")], step=0)
    assert replay.recall({"p0": 5})["p0"] == [], "an answer of this very step is no earlier one"
    replay.guided({})
    stored = replay.recall({"p0": 5, "p1": 1})
    assert [r.text for r in stored["p0"]] == ["p00", "p01"]
    assert stored["p1"] == [] and replay.metrics()["replay/stored"] == 2


@pytest.mark.parametrize("sampling", Sampling)
def test_rounds_of_a_step_share_its_prompts_its_guidance_and_its_metrics(sampling):
    replay = core(sampling, max_share=0.15, warmup_steps=0)
    first, second = replay.sample(4, step=0), replay.sample(3, step=0)
    assert len({x.id for x in first + second}) == 7
    decisions = observe(replay, [outcome(0, 8, x.id) for x in first], step=0)
    assert sum(d.count for d in decisions) == 4, "of 32 rollouts"
    more = observe(replay, [outcome(0, 8, x.id) for x in second], step=0)
    assert sum(d.count for d in more) == 8 - 4, "of 56 rollouts, less what was given before"
    metrics = replay.metrics()
    assert metrics["decisions/guide"] + metrics["decisions/keep"] + metrics["decisions/drop"] == 7
    assert metrics["group/all_wrong"] == 1
    replay.guided({first[0].id: GuideOutcome(True, 1, replaced=2)})
    assert replay.metrics()["guide/share"] == pytest.approx(2 / 56)
    assert len(replay.sample(POOL, step=1)) == POOL, "a new step starts with the whole pool"


def test_a_step_cannot_have_more_prompts_than_there_are():
    replay = core()
    replay.sample(POOL - 1, step=3)
    with pytest.raises(ConfigError, match=f"step 3 asks for {POOL + 1} different prompts"):
        replay.sample(2, step=3)


@pytest.mark.parametrize(
    "other",
    [
        {"query": "mill"},
        {"product": Product("a grinder", text="with a handle")},
        {"product": Product("a grinder", attributes={"color": "red"})},
        {"tier": 1},
        {"verdicts": {"category": "same"}},
    ],
)
def test_the_state_of_another_pool_with_the_same_ids_is_refused(other, tmp_path):
    rows = [example(f"p{i}") for i in range(3)]
    changed = [*rows[:2], replace(rows[2], **other)]
    settings_, file = (ReplayConfig(), GuidanceConfig(), 8, 0), tmp_path / "replay.npz"
    ReplayCore(Pool.of(rows), *settings_).save(file)
    ReplayCore(Pool.of(rows), *settings_).load(file)
    for another in (changed, rows[:2]):
        with pytest.raises(DataError, match="not the one that this run was started with: examples has changed"):
            ReplayCore(Pool.of(another), *settings_).load(file)


def test_what_is_under_way_when_a_run_ends_is_given_back(tmp_path):
    replay = core()
    names = [x.id for x in replay.sample(3, step=0)]
    observe(replay, [outcome(4, 8, names[0]), outcome(0, 8, names[1])], step=0)
    rows = replay.settle(0, trained=[names[0]], untaught=[])
    assert [(r["draw"], r["outcome"], r["reason"]) for r in rows] == [
        (0, "trained", ""),
        (1, "dropped", "zero_variance"),
    ]
    replay.save(tmp_path / "a.npz")
    resumed = core()
    resumed.load(tmp_path / "a.npz")
    for each in (replay, resumed):
        rows = each.finish(1)
        assert [(r["draw"], r["example_id"], r["outcome"]) for r in rows] == [(2, names[2], "given_back")]
        assert each.finish(1) == []


def test_a_checkpoint_of_an_earlier_version_is_refused_by_name(tmp_path):
    replay = core()
    replay.save(tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as state:
        about = {k: v for k, v in json.loads(str(state["about"])).items() if k != "ledger"}
        rest = {name: state[name] for name in state.files if name != "about"}
    np.savez(tmp_path / "old.npz", about=np.array(json.dumps(about)), **rest)
    with pytest.raises(DataError, match=r"old.npz has no ledger: an earlier version"):
        core().load(tmp_path / "old.npz")
