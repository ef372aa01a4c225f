"""Statistics of repeated runs agree with scipy and with literal loops, and keep their laws."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from agrl.errors import DataError
from agrl.report.statistics import compare_paired, holm, sign_flip_p, summarise, summarise_nested

NUMBERS = st.floats(-100, 100)
P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=12)
FEW = 500  # resamples, where only a law is tested


def grid(values, seeds=3):
    """Runs named (checkpoint, seed) from rows of values."""
    return {divmod(i, seeds): float(x) for i, x in enumerate(np.ravel(values))}


def test_mean_and_sd_are_the_textbooks():
    found = summarise([0.5, 0.6, 0.7])
    assert (found.n, found.mean, found.sd) == (3, pytest.approx(0.6), pytest.approx(0.1))


def test_one_run_has_no_spread():
    found = summarise([0.5])
    assert (found.n, found.mean, found.sd, found.interval) == (1, 0.5, None, None)


@pytest.mark.parametrize("values", [[], [0.1, float("nan")], [float("inf")]])
def test_what_is_no_measurement_is_refused(values):
    with pytest.raises(DataError, match="expected measurements"):
        summarise(values)
    with pytest.raises(DataError, match="expected measurements"):
        sign_flip_p(values)


def test_the_interval_is_scipys_percentile_bootstrap():
    x = np.random.default_rng(3).normal(0.6, 0.05, size=12)
    theirs = stats.bootstrap((x,), np.mean, n_resamples=50_000, method="percentile", random_state=0)
    ours = summarise(x, resamples=50_000).interval
    assert ours == pytest.approx(tuple(theirs.confidence_interval), abs=0.01 * x.std())


def test_the_same_seed_gives_the_same_interval():
    x = [0.1, 0.4, 0.2, 0.7]
    assert summarise(x, seed=1) == summarise(x, seed=1)
    assert summarise(x, seed=1, resamples=50).interval != summarise(x, seed=2, resamples=50).interval


@given(st.lists(NUMBERS, min_size=1, max_size=6), NUMBERS)
def test_the_interval_of_symmetric_data_holds_their_mean(half, centre):
    x = [centre + s * h for h in half for s in (-1, 1)]
    low, high = summarise(x, resamples=FEW).interval
    assert low - 1e-9 <= centre <= high + 1e-9


@given(st.lists(NUMBERS, min_size=2, max_size=8), NUMBERS)
def test_adding_a_constant_moves_the_interval_by_it(x, shift):
    plain, moved = summarise(x, resamples=FEW), summarise([v + shift for v in x], resamples=FEW)
    assert moved.interval == pytest.approx([v + shift for v in plain.interval], abs=1e-9)
    assert moved.sd == pytest.approx(plain.sd, abs=1e-9)


def literal_nested(rows, resamples, rng):
    """Checkpoints, then seeds of each, one draw at a time."""
    means = []
    for _ in range(resamples):
        drawn = [rows[i] for i in rng.integers(len(rows), size=len(rows))]
        means.append(np.mean([row[j] for row in drawn for j in rng.integers(len(row), size=len(row))]))
    return np.quantile(means, [0.025, 0.975])


def test_the_nested_interval_is_that_of_a_literal_loop():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(4, 1)) + 0.3 * rng.normal(size=(4, 3))
    ours = summarise_nested(grid(rows), resamples=40_000).interval
    assert ours == pytest.approx(literal_nested(rows, 8_000, rng), abs=0.06)
    assert ours[1] - ours[0] > 1.3 * np.diff(summarise(rows.ravel()).interval)[0]  # checkpoints matter


def test_checkpoints_of_different_size_count_by_their_runs():
    runs = {("x", 0): 1.0, ("y", 0): 0.0, ("y", 1): 0.0, ("y", 2): 0.0}
    found = summarise_nested(runs)
    assert (found.n, found.mean, found.interval) == (4, 0.25, (0.0, 1.0))


def test_one_checkpoint_tells_nothing_of_others():
    found = summarise_nested({("only", 0): 0.5, ("only", 1): 0.7})
    assert found.interval is None and found.mean == pytest.approx(0.6) and found.sd == pytest.approx(0.02**0.5)


def literal_sign_flips(x):
    sums = [abs(sum(s * v for s, v in zip(signs, x, strict=True))) for signs in product((1, -1), repeat=len(x))]
    return sum(total >= abs(sum(x)) - 1e-9 for total in sums) / len(sums)


@given(st.lists(st.integers(-20, 20), min_size=1, max_size=8))
def test_all_signs_are_enumerated(x):
    assert sign_flip_p([v / 10 for v in x]) == pytest.approx(literal_sign_flips([v / 10 for v in x]))


def test_sign_flips_are_scipys_permutation_test():
    x = np.random.default_rng(5).normal(0.4, 1, size=10)
    theirs = stats.permutation_test((x,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip_p(x) == pytest.approx(theirs.pvalue)


def test_many_pairs_are_sampled_close_to_the_normal_value():
    x = np.random.default_rng(2).normal(0.25, 1, size=80)
    z = abs(x.sum()) / np.sqrt((x**2).sum())  # the signs' sum has mean 0 and this variance
    assert sign_flip_p(x, resamples=40_000) == pytest.approx(2 * stats.norm.sf(z), abs=0.01)


@given(st.lists(NUMBERS, min_size=1, max_size=20))
def test_a_permutation_p_is_above_0_and_at_most_1(x):
    p = sign_flip_p(x, resamples=FEW)
    assert 0 < p <= 1
    assert sign_flip_p([-v for v in x], resamples=FEW) == pytest.approx(p)


def test_paired_runs_are_compared_run_by_run():
    rng = np.random.default_rng(1)
    a = grid(rng.normal(0.5, 0.1, size=(3, 3)))
    b = {key: value + 0.03 + 0.01 * rng.normal() for key, value in reversed(a.items())}
    found = compare_paired(a, b)
    differences = {key: b[key] - a[key] for key in a}
    assert (found.n, found.p) == (9, pytest.approx(2 / 2**9))
    assert found.mean == pytest.approx(np.mean(list(differences.values())))
    assert found.interval == summarise_nested(differences).interval and found.interval[0] > 0
    assert summarise_nested(a).interval[0] < summarise_nested(b).mean  # unpaired, the difference would be lost


def test_runs_without_a_partner_are_named():
    with pytest.raises(DataError, match=r"\('x', 1\) only in B"):
        compare_paired({("x", 0): 1.0}, {("x", 0): 1.0, ("x", 1): 2.0})


def literal_holm(p):
    order = sorted(range(len(p)), key=lambda i: p[i])
    adjusted, worst = [0.0] * len(p), 0.0
    for rank, i in enumerate(order):
        worst = max(worst, (len(p) - rank) * p[i])
        adjusted[i] = min(1.0, worst)
    return adjusted


@given(P_VALUES)
def test_holm_is_the_literal_procedure_and_monotone(p):
    adjusted = holm(p)
    assert adjusted == pytest.approx(literal_holm(p))
    assert all(x <= y <= 1 for x, y in zip(p, adjusted, strict=True))
    ordered = [value for _, value in sorted(zip(p, adjusted, strict=True))]
    assert ordered == sorted(ordered)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    for wrong in (-0.1, 1.5, float("nan")):
        with pytest.raises(DataError, match="p-values"):
            holm([0.5, wrong])
