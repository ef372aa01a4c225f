"""A pool of which some rows have labels: what the methods that are compared by their number of labels are given."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from agrl.data.files import read_examples, write_examples
from agrl.driver.experiments.grid import AT
from agrl.errors import ConfigError


def split_labels(folder: Path, train: str, count: int, seed: int) -> dict[str, str]:
    """Write the ``count`` rows of a pool that have labels, and the others without theirs: name -> file.

    Drawn at random; of two counts the larger one's rows hold the smaller one's. Raises ConfigError when the pool has
    fewer rows.
    """
    names = {f"{name}{AT}{count}": folder / f"{name}-{count}.parquet" for name in ("train", "unlabelled")}
    labelled, unlabelled = names.values()
    if not labelled.is_file():  # written last
        pool = read_examples(train)
        if count > len(pool):
            raise ConfigError(f"--labels {count}: {train} has {len(pool)} rows")
        order = np.random.default_rng(seed).permutation(len(pool)).tolist()
        if others := sorted(order[count:]):
            write_examples(unlabelled, [replace(pool[i], tier=None, verdicts={}, reference=None) for i in others])
        write_examples(labelled, [pool[i] for i in sorted(order[:count])])
    return {name: str(path) for name, path in names.items() if path.is_file()}
