import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from agrl.config.schema import ReplayConfig, Sampling
from agrl.errors import ConfigError, DataError
from replay import sampling as module
from replay.sampling import PromptSampler
from replay.statistics import PromptTable


def sampler(n, sampling=Sampling.uniform, floor=0.1, seed=0, rollouts=8):
    return PromptSampler(n, ReplayConfig(sampling=sampling, floor=floor), rollouts, seed)


def table_of(accuracies, rollouts=8, size=0):
    table = PromptTable(max(size, len(accuracies)))
    for i, correct in enumerate(accuracies):
        table.update(i, correct, rollouts)
    return table


def weights(draws, table):
    return np.exp(draws.log_weights(table, np.arange(len(table))))


def test_weights_are_the_normal_density_over_its_peak():
    found = weights(sampler(5, Sampling.difficulty, floor=0.01), table_of([0, 3, 4, 8], size=5))
    assert found == pytest.approx([0.01, math.exp(-0.5), 1.0, 0.01, 1.0])  # the last was never tried


@settings(max_examples=50, deadline=None)
@given(outcomes=st.lists(st.integers(0, 8), max_size=12), floor=st.floats(0.001, 1))
def test_no_weight_is_under_the_floor(outcomes, floor):
    found = weights(sampler(12, Sampling.difficulty, floor), table_of(outcomes, size=12))
    assert found.min() >= floor - 1e-12 and found.max() <= 1


@pytest.mark.parametrize("starved", range(6))
def test_even_the_least_likely_prompt_is_drawn(starved):
    """One mastered prompt among five at the peak: 0.1 / 5.1 a draw at least, so 1,500 draws miss it once in 1e12."""
    table = table_of([8 if i == starved else 4 for i in range(6)])
    draws = sampler(6, Sampling.difficulty, seed=starved)
    assert any(starved in draws.sample(1, table, step) for step in range(1500))


def by_gumbel(random, log_weights, n):
    """The literal way: weighted draws without replacement are the n largest of log-weight plus Gumbel noise."""
    return np.argsort(-(log_weights + random.gumbel(size=len(log_weights))))[:n].tolist()


@pytest.mark.parametrize(("n", "rounds"), [(1, module.ROUNDS), (3, module.ROUNDS), (3, 0), (4, 1)])
def test_draws_have_the_distribution_of_the_literal_way(n, rounds, monkeypatch):
    """Ordered draws of both by a chi-square test of homogeneity; ``rounds``: of proposals, before all at one go."""
    monkeypatch.setattr(module, "ROUNDS", rounds)
    table, draws, random = table_of([4, 3, 8, 2], size=5), sampler(5, Sampling.difficulty), np.random.default_rng(7)
    log_weights = draws.log_weights(table, np.arange(5))
    ours = Counter(tuple(draws.sample(n, table, step)) for step in range(8000))
    theirs = Counter(tuple(by_gumbel(random, log_weights, n)) for _ in range(8000))
    common = [key for key in ours | theirs if ours[key] + theirs[key] >= 20]
    rows = [[found[key] for key in common] + [8000 - sum(found[key] for key in common)] for found in (ours, theirs)]
    counts = np.array(rows)[:, np.sum(rows, axis=0) > 0]
    assert len(common) >= 5 and stats.chi2_contingency(counts).pvalue > 1e-4


def test_what_the_step_has_is_proposed_in_vain_and_the_others_keep_their_weights():
    table, draws = table_of([4, 3, 8, 4]), sampler(4, Sampling.difficulty)
    counts = Counter(draws.sample(1, table, step, taken=[3])[0] for step in range(6000))
    expected = weights(draws, table)[:3]
    assert [counts[i] / 6000 for i in range(3)] == pytest.approx(expected / expected.sum(), abs=0.025)
    assert not counts[3]


@settings(max_examples=50, deadline=None)
@given(pool=st.integers(1, 17), data=st.data(), sampling=st.sampled_from(Sampling))
def test_no_prompt_twice_in_a_step(pool, data, sampling):
    n, draws = data.draw(st.integers(1, pool)), sampler(pool, sampling)
    for step in range(12):
        chosen = draws.sample(n, PromptTable(pool), step)
        assert len(chosen) == len(set(chosen)) == n


@settings(max_examples=50, deadline=None)
@given(pool=st.integers(1, 17), data=st.data(), sampling=st.sampled_from(Sampling))
def test_rounds_of_a_step_have_no_prompt_twice_and_lose_none(pool, data, sampling):
    rounds, draws = data.draw(st.lists(st.integers(1, pool), min_size=1, max_size=4)), sampler(pool, sampling)
    for step in range(12):
        taken = []
        for n in rounds:
            if len(taken) + n <= pool:
                taken += draws.sample(n, PromptTable(pool), step, taken)
        assert len(taken) == len(set(taken))
    if sampling is Sampling.uniform:
        counts = Counter(draws.sample(1, PromptTable(pool), step)[0] for step in range(12, 12 + 2 * pool))
        assert counts.keys() == set(range(pool)), "a prompt that was passed over in a step must come back"


@settings(max_examples=50, deadline=None)
@given(pool=st.integers(1, 17), data=st.data())
def test_uniform_rounds_draw_every_prompt_once_an_epoch(pool, data):
    n = data.draw(st.integers(1, pool))
    draws, drawn = sampler(pool), []
    for step in range(3 * pool):
        first = draws.sample(n, PromptTable(pool), step)
        drawn += first + (draws.sample(min(2, pool - n), PromptTable(pool), step, first) if n < pool else [])
    for start in range(0, len(drawn) - pool + 1, pool):
        assert sorted(drawn[start : start + pool]) == list(range(pool))


@settings(max_examples=50, deadline=None)
@given(pool=st.integers(1, 17), data=st.data())
def test_uniform_draws_every_prompt_once_an_epoch(pool, data):
    n, draws = data.draw(st.integers(1, pool)), sampler(pool)
    drawn = [name for step in range(3 * pool) for name in draws.sample(n, PromptTable(pool), step)]
    for start in range(0, len(drawn) - pool + 1, pool):
        assert sorted(drawn[start : start + pool]) == list(range(pool))


@settings(max_examples=50, deadline=None)
@given(pool=st.integers(2, 13), before=st.integers(0, 15), data=st.data(), sampling=st.sampled_from(Sampling))
def test_resume_is_exact_anywhere_in_an_epoch(pool, before, data, sampling):
    n, table, draws = data.draw(st.integers(1, pool)), table_of([0, 4], size=pool), sampler(pool, sampling)
    for step in range(before):
        draws.sample(n, table, step)
    resumed = sampler(pool, sampling, seed=99)
    resumed.load_state_dict(draws.state_dict())
    assert [resumed.sample(n, table, s) for s in range(9)] == [draws.sample(n, table, s) for s in range(9)]


def test_resume_at_the_boundary_of_an_epoch():
    draws, resumed, table = sampler(6), sampler(6, seed=99), PromptTable(6)
    first = draws.sample(3, table, 0) + draws.sample(3, table, 1)
    state = draws.state_dict()
    assert sorted(first) == list(range(6)) and (state["at"], state["waiting"]) == (6, [])
    resumed.load_state_dict(state)
    second = [resumed.sample(3, table, s) for s in (2, 3)]
    assert second == [draws.sample(3, table, s) for s in (2, 3)]
    assert sorted(second[0] + second[1]) == list(range(6)) and resumed.epochs == 2


def test_impossible_pools_are_named():
    with pytest.raises(ConfigError, match="step 7 asks for 4 different prompts"):
        sampler(3).sample(4, PromptTable(3), 7)
    with pytest.raises(DataError, match="empty"):
        sampler(0)
