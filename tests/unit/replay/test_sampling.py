import json
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agrl.config.schema import ReplayConfig, Sampling
from agrl.errors import ConfigError, DataError
from replay.sampling import PromptSampler
from replay.statistics import PromptTable


def ids(n):
    return [f"p{i}" for i in range(n)]


def sampler(n, sampling=Sampling.uniform, floor=0.1, seed=0, rollouts=8):
    return PromptSampler(ids(n), ReplayConfig(sampling=sampling, floor=floor), rollouts, seed)


def table_of(accuracies, rollouts=8):
    table = PromptTable()
    for i, correct in enumerate(accuracies):
        table.update(f"p{i}", correct, rollouts, version=0, step=0)
    return table


def test_weights_are_the_normal_density_over_its_peak():
    weights = np.exp(sampler(5, Sampling.difficulty, floor=0.01).log_weights(table_of([0, 3, 4, 8])))
    assert weights == pytest.approx([0.01, math.exp(-0.5), 1.0, 0.01, 1.0])  # the last was never tried


@settings(max_examples=50, deadline=None)
@given(outcomes=st.lists(st.integers(0, 8), max_size=12), floor=st.floats(0.001, 1))
def test_no_weight_is_under_the_floor(outcomes, floor):
    log_weights = sampler(12, Sampling.difficulty, floor).log_weights(table_of(outcomes))
    assert log_weights.min() >= math.log(floor) and log_weights.max() <= 0


@pytest.mark.parametrize("starved", range(6))
def test_even_the_least_likely_prompt_is_drawn(starved):
    """One mastered prompt among five at the peak: 0.1 / 5.1 a draw at least, so 1,500 draws miss it once in 1e12."""
    table = table_of([8 if i == starved else 4 for i in range(6)])
    draws = sampler(6, Sampling.difficulty, seed=starved)
    assert any(f"p{starved}" in draws.sample(1, table, step) for step in range(1500))


def test_draws_follow_the_weights():
    table, draws = table_of([4, 3, 8]), sampler(3, Sampling.difficulty)
    weights = np.exp(draws.log_weights(table))
    counts = Counter(draws.sample(1, table, step)[0] for step in range(6000))
    shares = [counts[f"p{i}"] / 6000 for i in range(3)]
    assert shares == pytest.approx(weights / weights.sum(), abs=0.025)  # four standard deviations


@settings(max_examples=50, deadline=None)
@given(pool=st.integers(1, 17), data=st.data(), sampling=st.sampled_from(Sampling))
def test_no_prompt_twice_in_a_step(pool, data, sampling):
    n, draws = data.draw(st.integers(1, pool)), sampler(pool, sampling)
    for step in range(12):
        chosen = draws.sample(n, PromptTable(), step)
        assert len(chosen) == len(set(chosen)) == n


@settings(max_examples=50, deadline=None)
@given(pool=st.integers(1, 17), data=st.data(), sampling=st.sampled_from(Sampling))
def test_rounds_of_a_step_have_no_prompt_twice_and_lose_none(pool, data, sampling):
    rounds, draws = data.draw(st.lists(st.integers(1, pool), min_size=1, max_size=4)), sampler(pool, sampling)
    for step in range(12):
        taken = []
        for n in rounds:
            if len(taken) + n <= pool:
                taken += draws.sample(n, PromptTable(), step, taken)
        assert len(taken) == len(set(taken))
    if sampling is Sampling.uniform:
        counts = Counter(draws.sample(1, PromptTable(), step)[0] for step in range(12, 12 + 2 * pool))
        assert counts.keys() == set(ids(pool)), "a prompt that was passed over in a step must come back"


@settings(max_examples=50, deadline=None)
@given(pool=st.integers(1, 17), data=st.data())
def test_uniform_rounds_draw_every_prompt_once_an_epoch(pool, data):
    n = data.draw(st.integers(1, pool))
    draws, drawn = sampler(pool), []
    for step in range(3 * pool):
        first = draws.sample(n, PromptTable(), step)
        drawn += first + (draws.sample(min(2, pool - n), PromptTable(), step, first) if n < pool else [])
    for start in range(0, len(drawn) - pool + 1, pool):
        assert sorted(drawn[start : start + pool]) == sorted(ids(pool))


@settings(max_examples=50, deadline=None)
@given(pool=st.integers(1, 17), data=st.data())
def test_uniform_draws_every_prompt_once_an_epoch(pool, data):
    n, draws = data.draw(st.integers(1, pool)), sampler(pool)
    drawn = [name for step in range(3 * pool) for name in draws.sample(n, PromptTable(), step)]
    for start in range(0, len(drawn) - pool + 1, pool):
        assert sorted(drawn[start : start + pool]) == sorted(ids(pool))


@settings(max_examples=50, deadline=None)
@given(pool=st.integers(2, 13), before=st.integers(0, 15), data=st.data(), sampling=st.sampled_from(Sampling))
def test_resume_is_exact_anywhere_in_an_epoch(pool, before, data, sampling):
    n, table, draws = data.draw(st.integers(1, pool)), table_of([0, 4]), sampler(pool, sampling)
    for step in range(before):
        draws.sample(n, table, step)
    resumed = sampler(pool, sampling, seed=99)
    resumed.load_state_dict(json.loads(json.dumps(draws.state_dict())))
    assert [resumed.sample(n, table, s) for s in range(9)] == [draws.sample(n, table, s) for s in range(9)]


def test_resume_at_the_boundary_of_an_epoch():
    draws, resumed = sampler(6), sampler(6, seed=99)
    first = draws.sample(3, PromptTable(), 0) + draws.sample(3, PromptTable(), 1)
    state = draws.state_dict()
    assert sorted(first) == ids(6) and state["epoch"] == []
    resumed.load_state_dict(state)
    second = [resumed.sample(3, PromptTable(), s) for s in (2, 3)]
    assert second == [draws.sample(3, PromptTable(), s) for s in (2, 3)]
    assert sorted(second[0] + second[1]) == ids(6) and resumed.epochs == 2


def test_impossible_pools_are_named():
    with pytest.raises(ConfigError, match="step 7 asks for 4 different prompts"):
        sampler(3).sample(4, PromptTable(), 7)
    with pytest.raises(DataError, match="'p1' twice"):
        PromptSampler(["p1", "p2", "p1"], ReplayConfig(), 8, 0)
    with pytest.raises(DataError, match="empty"):
        PromptSampler([], ReplayConfig(), 8, 0)
