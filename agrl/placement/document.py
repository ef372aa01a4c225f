"""Writes the table of docs/placement.md: every shipped size on every shipped cluster.

python -m agrl.placement.document
"""

from __future__ import annotations

from pathlib import Path

from agrl.config.compose import load_config
from agrl.config.keys import choices
from agrl.marked import write_part
from agrl.placement.fits import GIB, gib
from agrl.placement.foresight import foresee
from agrl.placement.machines import described

PART = "combinations"  # of the page, between its marks
CARD, LARGE_CARD = 79, 139  # GiB that programs see of "80 GB" and of "141 GB"
LARGE = [("qwen3_32b", "gpus_1")]
HEAD = """\
| size | GPUs | trains | placement | ranks, ZeRO | engines | learner's turn | engines' turn | card | sequences |
|---|---|---|---|---|---|---|---|---|---|"""


def combinations() -> str:
    """Markdown: a row for each size and cluster, with the memory of the fullest GPU of either turn."""
    sizes = sorted((n for n in choices("size") if n.startswith("qwen3_")), key=lambda n: float(n[6:-1]))
    clusters = sorted(choices("cluster"), key=lambda name: int(name.removeprefix("gpus_")))
    return "\n".join([HEAD, *(_row(size, cluster) for size in sizes for cluster in clusters)])


def _row(size: str, cluster: str) -> str:
    config = load_config([f"size={size}", f"cluster={cluster}"])
    card = LARGE_CARD if (size, cluster) in LARGE else CARD
    found = foresee(config, described(config, gpu_bytes=card * GIB))
    turns = [(turn, device.total(turn)) for device in found.memory.devices for turn in device.turns]
    learner = max(size for turn, size in turns if turn == "learner's turn")
    engines = max(size for turn, size in turns if turn == "engines' turn")
    shards = config.rollout.tensor_parallel
    cells = (
        f"`{size}`",
        f"`{cluster}`",
        f"rank {config.model.lora_rank} updates" if config.model.lora_rank else "all weights",
        config.ray.placement.value,
        f"{config.learner.ranks}, {config.learner.zero_stage}",
        f"{config.rollout.actors}" + (f" of {shards} GPUs" if shards > 1 else ""),
        gib(learner),
        gib(engines),
        f"{card} GiB",
        f"{found.memory.engine.sequences:,.0f}" if found.memory.engine else "",
    )
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    write_part(Path("docs/placement.md"), PART, combinations())
