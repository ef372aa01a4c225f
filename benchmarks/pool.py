"""How large a pool may be: seconds to the first step, of a draw and of a checkpoint; bytes a prompt takes.

    python benchmarks/pool.py [--pairs N ...] [--json FILE]     about four minutes for the three sizes

For each size a Parquet file is written first, which is not timed. Then, in a process that has never seen it:

first_step_s    from the start of that process to 1,024 prompts drawn, tokenised and ready to be generated: imports, the
                index (made here: checks of every row), Ray, the replay actor, the look for leaks, one draw
again_s         the same when the index is there
sample_1024_ms  a draw in the replay actor, by difficulty, when every prompt was tried; median of 21
sample_1024_ray_ms  the same as the driver waits for it
state_s, state_mb   the replay actor's part of a checkpoint, when every prompt was tried and guided
replay_bytes, driver_bytes  memory a prompt beyond a pool of 4,096, of their own (memory maps are the system's)
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])  # not this folder, whose learner.py would hide the package learner

SIZES = (100_000, 1_000_000, 10_000_000)
DRAWN = 1024
SMALL = 4096


def write_pool(file: Path, pairs: int) -> None:
    """Different pairs of the bundled catalogue's kind: their ids, titles and queries count."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from agrl.data.catalogue.build import make_catalogue
    from agrl.data.catalogue.spec import CatalogueSpec
    from agrl.data.schema import SCHEMA

    folder = file.parent / "catalogue"
    if not folder.exists():
        make_catalogue(folder, CatalogueSpec(seed_rows=100, pool_rows=4000, balanced_rows=64, wild_rows=64))
    base = pq.read_table(folder / "train.parquet", schema=SCHEMA)
    with pq.ParquetWriter(file, SCHEMA, compression="zstd") as writer:
        for begin in range(0, pairs, 2**17):
            numbers = np.arange(begin, min(begin + 2**17, pairs))
            rows = base.take(numbers % len(base))
            texts = [pa.array([f"{word}{n}" for n in numbers.tolist()]) for word in ("pair-", " no. ")]
            queries = pa.compute.binary_join_element_wise(rows["query"].combine_chunks(), texts[1], "")
            rows = rows.set_column(0, SCHEMA.field("id"), texts[0]).set_column(1, SCHEMA.field("query"), queries)
            writer.write_table(rows)


def measured_core():
    import numpy as np

    from replay.core import ReplayCore

    class MeasuredCore(ReplayCore):
        def try_all(self) -> None:
            """Every prompt as if it had been tried eight times, and guided."""
            columns, random = self._table._columns, np.random.default_rng(0)
            size = len(self._table)
            columns["attempts"][:], columns["guided"][:], columns["hint_level"][:] = 8, 1, 2
            columns["solved"][:] = 1
            columns["outcomes"][:] = 8
            columns["outcomes"][:, :, 0] = random.integers(0, 9, (size, 1), dtype=np.uint8)
            columns["accuracy"][:] = random.random(size)
            self._table.tried = self._table.guided_prompts = size

        def times(self, n: int) -> list[float]:
            found = []
            for step in range(1, 22):
                began = time.perf_counter()
                self.sample(n, step)
                found.append(time.perf_counter() - began)
            return found

        def timed_save(self, file: str) -> float:
            began = time.perf_counter()
            self.save(file)
            with open(file) as saved:
                os.fsync(saved.fileno())
            return time.perf_counter() - began

        def memory(self) -> int:
            return own_memory()

    return MeasuredCore


def own_memory() -> int:
    """Bytes of this process that are no file's."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["RssAnon"].split()[0]) * 1024


def child(file: Path, out: Path, whole: bool) -> dict[str, float]:
    began = time.perf_counter() - time.clock_gettime(time.CLOCK_MONOTONIC) + float(os.environ["BEGAN"])
    from rich.console import Console

    from actors.runtime import Runtime
    from agrl.config.schema import GuidanceConfig, ReplayConfig, TaskConfig
    from agrl.data.files import read_examples
    from agrl.data.leaks import leaks_of_pool
    from agrl.data.pool import open_pool
    from agrl.driver.services.prompt_encoder import PromptEncoder
    from agrl.models.build import train_tokenizer
    from agrl.relevance.rulebook import load_rulebook

    pool = open_pool(file, Console(stderr=True))
    held_out = read_examples(file.parent / "catalogue" / "wild.parquet")
    leaks_of_pool("data.train", pool, {"wild": held_out})
    book = load_rulebook("relevance")
    tokenizer = train_tokenizer([example.query for example in held_out], 512)
    encoder = PromptEncoder(book, tokenizer, TaskConfig(prompt_style="brief"))
    runtime = Runtime("local")
    replay = runtime.start(measured_core(), "replay", pool, ReplayConfig(), GuidanceConfig(), 8, 0)
    for example in replay.call("sample", DRAWN, 0).result():
        encoder.fits(example, False)
    found = {"first_step_s": time.perf_counter() - began}
    if whole:
        replay.call("try_all").result()
        found["driver"], found["replay"] = own_memory(), replay.call("memory").result()
        found["sample_1024_ms"] = 1e3 * statistics.median(replay.call("times", DRAWN).result())
        waits = []
        for step in range(100, 111):
            since = time.perf_counter()
            replay.call("sample", DRAWN, step).result()
            waits.append(time.perf_counter() - since)
        found["sample_1024_ray_ms"] = 1e3 * statistics.median(waits)
        found["state_s"] = replay.call("timed_save", str(out / "replay.npz")).result()
        found["state_mb"] = (out / "replay.npz").stat().st_size / 1e6
    runtime.shutdown()
    return found


def run(file: Path, whole: bool) -> dict[str, float]:
    env = os.environ | {"BEGAN": str(time.clock_gettime(time.CLOCK_MONOTONIC))}
    command = [sys.executable, __file__, "--child", str(file), *["--whole"] * whole]
    said = subprocess.run(command, env=env, stdout=subprocess.PIPE, check=True, text=True).stdout
    return json.loads(said.splitlines()[-1])


def measure(folder: Path, pairs: int, base: dict[str, float] | None) -> dict[str, float]:
    file = folder / f"{pairs}.parquet"
    write_pool(file, pairs)
    first, again = run(file, whole=False), run(file, whole=True)
    found = {"first_step_s": first["first_step_s"], "again_s": again.pop("first_step_s"), **again}
    found |= {"file_mb": file.stat().st_size / 1e6}
    index = file.with_name(f".{file.name}.index.arrow")
    found |= {"index_mb": index.stat().st_size / 1e6}
    for path in (file, index):
        path.unlink()
    if base:
        for name in ("replay", "driver"):
            found[f"{name}_bytes"] = (found[name] - base[name]) / (pairs - SMALL)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, nargs="*", default=SIZES)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--whole", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pool-") as folder:
        if args.child:
            print(json.dumps(child(args.child, Path(folder), args.whole)))
            return
        base = measure(Path(folder), SMALL, None)
        pools = {}
        for pairs in args.pairs:
            found = measure(Path(folder), pairs, base)
            pools[str(pairs)] = {k: round(v, 3) for k, v in found.items() if k not in ("replay", "driver")}
            print(f"{pairs:>10,}  " + "  ".join(f"{k} {v:g}" for k, v in pools[str(pairs)].items()), flush=True)
    if args.json:
        args.json.write_text(json.dumps({"cpus": os.cpu_count(), "pools": pools}, indent=1) + "\n")


if __name__ == "__main__":
    main()
