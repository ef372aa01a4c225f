"""Statistics of repeated runs: means with intervals, paired comparisons, corrected p-values. Pure, and seeded.

Runs are named by (checkpoint, seed): the supervised checkpoint that a run starts from and the seed that it trains with.
Runs from one checkpoint resemble each other, so a bootstrap resamples checkpoints first, then the seeds of each.

All intervals are percentile bootstrap intervals of the mean at 95 % (Efron & Tibshirani 1993, section 13.3). BCa is not
used: its acceleration would be estimated from the handful of runs that one can afford. With under about ten runs these
intervals are somewhat too narrow, as every bootstrap's are; read them beside the number of runs.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from agrl.errors import DataError

Runs = Mapping[tuple[Hashable, Hashable], float]
"""(checkpoint, seed) -> a number that was measured at the end of that run."""

Interval = tuple[float, float]
LEVEL = 0.95
RESAMPLES = 10_000
EXACT = 16  # differences up to which all 2^n signs are enumerated


@dataclass(frozen=True)
class Summary:
    """``mean`` and ``sd`` (ddof 1; None for one run) of ``n`` runs; ``interval`` of the mean, None where n < 2."""

    n: int
    mean: float
    sd: float | None
    interval: Interval | None


@dataclass(frozen=True)
class Difference:
    """B minus A over ``n`` paired runs. ``interval``: of the mean, None where it cannot be known. ``p``: two-sided."""

    n: int
    mean: float
    sd: float | None
    interval: Interval | None
    p: float


def summarise(values: Sequence[float], seed: int = 0, resamples: int = RESAMPLES) -> Summary:
    """The summary of independent runs. Raises DataError when there is none or one is not finite."""
    x = _finite(values)
    return _summary(x, _interval(_resampled_means(x, resamples, np.random.default_rng(seed))) if len(x) > 1 else None)


def summarise_nested(runs: Runs, seed: int = 0, resamples: int = RESAMPLES) -> Summary:
    """The summary of runs from several checkpoints.

    ``mean`` and ``sd`` are of all runs alike. The interval resamples checkpoints, then seeds in each drawn one; it is
    None with fewer than two checkpoints, for one cannot tell how much another would change. Raises DataError as
    ``summarise`` does.
    """
    return _summary(_finite(list(runs.values())), _nested_interval(runs, seed, resamples))


def compare_paired(a: Runs, b: Runs, seed: int = 0, resamples: int = RESAMPLES) -> Difference:
    """How method B differs from method A over the same (checkpoint, seed) pairs.

    The interval is that of ``summarise_nested``: how far the difference carries to other checkpoints and seeds. ``p``
    is ``sign_flip_p`` over the pairs: whether the method matters to *these* runs. The two can disagree. Raises
    DataError, naming them, when a run has no partner.
    """
    if lonely := a.keys() ^ b.keys():
        named = ", ".join(f"{key} only in {'A' if key in a else 'B'}" for key in sorted(lonely, key=repr))
        raise DataError(f"runs without a partner: {named}", hint="compare the runs that both methods have")
    differences = {key: b[key] - a[key] for key in a}
    found = summarise_nested(differences, seed, resamples)
    return Difference(found.n, found.mean, found.sd, found.interval, sign_flip_p(list(differences.values()), seed))


def sign_flip_p(differences: Sequence[float], seed: int = 0, resamples: int = RESAMPLES) -> float:
    """Two-sided permutation p-value of the mean of paired differences, in (0, 1].

    Where the method makes no difference each sign is as likely as the other (Fisher 1935, The Design of Experiments,
    section 21). All 2^n signs are enumerated for n <= 16, so the least possible value is 2^(1-n): six pairs are needed
    for one under 0.05. For more pairs signs are drawn, the observed ones counted in: (hits + 1) / (resamples + 1)
    (Phipson & Smyth 2010). Raises DataError as ``summarise`` does.
    """
    x = _finite(differences)
    if len(x) <= EXACT:
        signs = 1.0 - 2.0 * ((np.arange(2 ** len(x))[:, None] >> np.arange(len(x))) & 1)  # [2^n, n]
    else:
        signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(resamples, len(x)))
    tolerance = 1e-12 * np.abs(x).sum()  # sums that are equal but for rounding are equal
    hits = int((np.abs(signs @ x) >= abs(x.sum()) - tolerance).sum())
    return hits / len(signs) if len(x) <= EXACT else (hits + 1) / (len(signs) + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values of a family adjusted by Holm's step-down method (Holm 1979), in the order given, each at most 1.

    Rejecting those under alpha keeps the chance of any false rejection under alpha. Raises DataError for a p outside
    [0, 1].
    """
    p = np.asarray(p_values, dtype=float)
    if not ((p >= 0) & (p <= 1)).all():  # also catches NaN
        raise DataError(f"p-values lie in [0, 1], found {p.tolist()}")
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted.tolist()


def _summary(x: np.ndarray, interval: Interval | None) -> Summary:
    return Summary(len(x), float(x.mean()), float(x.std(ddof=1)) if len(x) > 1 else None, interval)


def _nested_interval(runs: Runs, seed: int, resamples: int) -> Interval | None:
    """Of the mean over runs, a drawn checkpoint counting by its number of seeds, as in the mean itself."""
    groups: dict[Hashable, list[float]] = {}
    for (checkpoint, _), value in runs.items():
        groups.setdefault(checkpoint, []).append(value)
    if len(groups) < 2:
        return None
    rng = np.random.default_rng(seed)
    parts = [np.asarray(values, dtype=float) for values in groups.values()]
    sizes = np.array([len(part) for part in parts])
    drawn = rng.integers(len(parts), size=(resamples, len(parts)))
    sums = np.zeros(resamples)
    for place in range(len(parts)):  # fresh seeds for every place, also where a checkpoint is drawn twice
        means = np.stack([_resampled_means(part, resamples, rng) for part in parts])  # [checkpoints, resamples]
        chosen = drawn[:, place]
        sums += sizes[chosen] * means[chosen, np.arange(resamples)]
    return _interval(sums / sizes[drawn].sum(axis=1))


def _resampled_means(x: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Means [resamples] of draws with replacement of as many values as there are."""
    return x[rng.integers(len(x), size=(resamples, len(x)))].mean(axis=1)


def _interval(means: np.ndarray) -> Interval:
    tail = (1.0 - LEVEL) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return float(low), float(high)


def _finite(values: Sequence[float]) -> np.ndarray:
    x = np.asarray(values, dtype=float)
    if not len(x) or not np.isfinite(x).all():
        raise DataError(f"expected measurements, found {x.tolist()}", hint="leave out runs that did not finish")
    return x
