"""The plan of a run as tables for people."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console

from agrl.placement.fits import Device, Part, gib
from agrl.placement.foresight import Foresight
from agrl.placement.snapshots import snapshot_lines
from agrl.report.plain import PlainTable


def show(console: Console, found: Foresight) -> None:
    """Print what sits where, the memory of each kind of GPU by part and turn, the KV cache and the network."""
    a, config = found.architecture, found.config
    low_rank = f", low-rank updates of rank {a.lora_rank} ({a.adapters:,} trained)" if a.lora_rank else ""
    console.print(f"{config.model.path}: {a.parameters:,} parameters, {config.model.dtype}{low_rank}", soft_wrap=True)
    console.print(_places(found))
    for device in found.memory.devices:
        console.print(_memory(device))
    for line in (*_cache(found), *snapshot_lines(found.snapshots, found.layout)):
        console.print(line, soft_wrap=True)
    if found.traffic:
        console.print(_network(found))
    gpus = [device for device in found.memory.devices if device.bytes]
    if gpus:
        fullest = min(gpus, key=lambda device: device.bytes - device.peak)
        console.print(
            f"It fits: the fullest GPU keeps {gib(fullest.bytes - fullest.peak)} of {gib(fullest.bytes)} free."
        )


def names(actors: Sequence[str]) -> str:
    """Such as "learner-0 to learner-7, replay"."""
    shown = []
    split = [re.fullmatch(r"(.+)-(\d+)", actor) for actor in actors]
    for i, found in enumerate(split):
        if found is None:
            shown.append(actors[i])
    by_kind: dict[str, list[int]] = {}
    for found in split:
        if found:
            by_kind.setdefault(found[1], []).append(int(found[2]))
    runs = [f"{kind}-{part}" for kind, numbers in by_kind.items() for part in _runs(sorted(numbers))]
    return ", ".join(runs + shown)


def _runs(numbers: list[int]) -> list[str]:
    grouped = itertools.groupby(enumerate(numbers), lambda item: item[1] - item[0])
    parts = [[n for _, n in group] for _, group in grouped]
    return [f"{p[0]}" if len(p) == 1 else f"{p[0]}..{p[-1]}" for p in parts]


def _places(found: Foresight) -> PlainTable:
    table = PlainTable("What sits where", box=SIMPLE_HEAD)
    for column in ("host", "GPUs", "learner ranks", "rollout engines", "others"):
        table.add_column(column)
    for i, machine in enumerate(found.layout.machines.hosts):
        here = [place for place in found.layout.places if place.host == i]
        of = {s: names([p.actor for p in here if p.service == s]) for s in ("learner", "rollout")}
        others = names([p.actor for p in here if p.service not in of])
        host = machine.host.name if found.layout.machines.described else str(machine.host)
        table.add_row(host, str(len(machine.gpus)), of["learner"], of["rollout"], others)
    return table


def _memory(device: Device) -> PlainTable:
    what = "GPU" if device.on_gpu else "process, in main memory"
    number = f", {device.count} such" if device.count > 1 else ""
    table = PlainTable(f"Memory of a {what}: {' and '.join(device.actors)}{number}", box=SIMPLE_HEAD)
    table.add_column("")
    for turn in device.turns:
        table.add_column(turn if device.on_gpu else "at most", justify="right")
    rows = list(dict.fromkeys((part.owner, part.name) for parts in device.turns.values() for part in parts))
    for owner, name in sorted(rows, key=lambda row: row[0] != "learner"):
        cells = (_cell(parts, owner, name) for parts in device.turns.values())
        table.add_row(f"{owner}: {name}", *cells)
    table.add_section()
    of = f" of {gib(device.bytes)}" if device.bytes else ""
    table.add_row(f"together{of}", *(gib(device.total(turn)) for turn in device.turns))
    return table


def _cell(parts: Sequence[Part], owner: str, name: str) -> str:
    size = sum(part.bytes for part in parts if (part.owner, part.name) == (owner, name))
    return gib(size) if size else ""


def _cache(found: Foresight) -> list[str]:
    engine, task, lines = found.memory.engine, found.config.task, []
    if engine:
        longest = task.max_prompt_tokens + task.max_response_tokens
        lines.append(
            f"KV cache: an engine's holds {engine.tokens:,} tokens, {engine.sequences:,.0f} sequences of {longest:,} "
            f"(rollout.max_concurrent={found.config.rollout.max_concurrent}; a prompt is kept once for its rollouts)"
        )
    if found.layout.of("learner"):
        lines.append(f"Main memory: a host's learner ranks need {gib(found.loading)} together while they load")
    return lines


def _network(found: Foresight) -> PlainTable:
    t, rate = found.traffic, found.layout.machines.network
    assert t is not None
    table = PlainTable("What the network carries in a step", box=SIMPLE_HEAD)
    for column, justify in (("", "left"), ("who sends it", "left"), ("bytes", "right")):
        table.add_column(column, justify=justify)
    if rate:
        table.add_column("seconds at least", justify="right")
    apart = t.learner_hosts > 1
    rank = "each rank" if apart else "each rank, within its host"
    rows = (
        ("gradients, added up over the ranks", rank, t.gradients, apart),
        ("weights that ZeRO gathers", rank, t.gathers, apart),
        ("new weights for the engines", "the first rank", t.weights_out, True),
        ("rollouts", "the driver", t.rollouts, True),
        ("leaves the host of the first rank at most", "", t.link, True),
    )
    for what, who, size, travels in rows:
        seconds = f"{size / rate:.3f}" if rate and travels else ""
        table.add_row(what, who, gib(size), *((seconds,) if rate else ()))
    return table
