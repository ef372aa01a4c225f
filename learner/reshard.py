"""A checkpoint for other ranks, or another ZeRO stage, than those that wrote it.

Whatever the stage, three numbers are kept of each trained weight in float32: itself and Adam's two moments. They lie in
*masters*, tensors that hold one parameter or many, and the moments as they do; the stages cut parameters into masters,
and masters over ranks, each in its own way. The places are those of a checkpoint that the present engine has just
written; they are filled with the numbers of the older one. DeepSpeed's universal checkpoints do the same by way of a
third form on the disk, and neither write nor read ZeRO 0.
"""

from __future__ import annotations

import copy
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch

from agrl.errors import ModelError

MODEL = "mp_rank_00_model_states.pt"
OF_RANK = re.compile(r"zero_pp_rank_(\d+)_mp_rank_00_optim_states\.pt$")
MOMENTS = ("exp_avg", "exp_avg_sq")

Shapes = Mapping[str, tuple[int, ...]]
"""The trained parameters by name, in the order of the optimizer."""

Run = tuple[str, int, int]
"""Elements of a parameter that lie together: its name, where they begin in a master, how many they are."""


@dataclass(frozen=True)
class Part:
    """What one rank has written of the optimizer.

    ``runs``: of each master, what lies in it. ``states``: those of Adam, by the number of the master; none before its
    first step. ``padding``: by how many elements the moments of each are longer. ``about``: what else there is of the
    optimizer.
    """

    file: Path
    content: dict[str, Any]
    masters: list[torch.Tensor]
    runs: list[list[Run]]
    states: dict[int, dict[str, Any]]
    padding: list[int]
    about: dict[str, Any]


def read_parts(folder: Path, shapes: Shapes) -> list[Part]:
    """Those of all ranks, in their order; one in ZeRO 0. They are mapped from the disk: what is used is read."""
    ranked = {int(found[1]): file for file in folder.iterdir() if (found := OF_RANK.search(file.name))}
    files = [ranked[rank] for rank in sorted(ranked)]
    return [_zero(file, rank, len(files)) for rank, file in enumerate(files)] or [_whole(folder / MODEL, shapes)]


def _load(file: Path) -> dict[str, Any]:
    return torch.load(file, map_location="cpu", mmap=True, weights_only=False)


def _whole(file: Path, shapes: Shapes) -> Part:
    """ZeRO 0: a master for each parameter; in float32 the parameter itself."""
    content = _load(file)
    about = content["optimizer"]
    if "fp32_groups" in about:
        named = dict(zip(shapes, (master for group in about["fp32_groups"] for master in group), strict=False))
        states = about["optimizer_state_dict"]["state"]
    else:
        named, states = {name: content["module"][name] for name in shapes if name in content["module"]}, about["state"]
    runs = [[(name, 0, master.numel())] for name, master in named.items()]
    return Part(file, content, list(named.values()), runs, states, [0] * len(runs), about)


def _zero(file: Path, rank: int, ranks: int) -> Part:
    """ZeRO 1 to 3: a master for each group of parameters, of which the rank has a share."""
    content = _load(file)
    about = content["optimizer_state_dict"]
    if about["zero_stage"] < 3:
        runs = [[(name, at.start, at.numel) for name, at in group.items()] for group in about["param_slice_mappings"]]
        masters, states = about["single_partition_of_fp32_groups"], about["base_optimizer_state"]["state"]
        return Part(file, content, masters, runs, states, about["group_paddings"], about)
    groups = _load(file.with_name(f"zero_pp_rank_{rank}_mp_rank_00_model_states.pt"))["param_shapes"]
    runs, masters = [list(_shares(group, rank, ranks)) for group in groups], about["fp32_flat_groups"]
    return Part(file, content, masters, runs, about["optimizer_state_dict"]["state"], [0] * len(masters), about)


def _shares(shapes: Shapes, rank: int, ranks: int) -> Iterator[Run]:
    """ZeRO-3 cuts each parameter into shares of one size; the last ones are shorter, or empty."""
    at = 0
    for name, shape in shapes.items():
        share = -(-prod(shape) // ranks)
        yield name, at, max(0, min(share, prod(shape) - rank * share))
        at += share


class Numbers:
    """The weights and moments of a checkpoint by the names of the parameters."""

    def __init__(self, folder: Path, shapes: Shapes) -> None:
        """Raises ModelError where the folder does not hold the parameters of ``shapes``, or others."""
        parts = read_parts(folder, shapes)
        self._places: dict[str, list[tuple[Part, int, int, int]]] = defaultdict(list)
        for part in parts:
            for master, runs in enumerate(part.runs):
                for name, at, size in runs:
                    self._places[name].append((part, master, at, size))
        self.states, self.about = parts[0].states, parts[0].about
        held = {name: sum(size for *_, size in places) for name, places in self._places.items()}
        wanted = {name: prod(shape) for name, shape in shapes.items()}
        if other := sorted(name for name in held | wanted if held.get(name) != wanted.get(name)):
            raise ModelError(
                f"{folder} is not of this model: it holds {held.get(other[0], 0):,} trained weights of {other[0]}, "
                f"which has {wanted.get(other[0], 0):,}",
                hint="resume with the model.path and model.lora_rank that the run was started with",
            )

    @property
    def step(self) -> Any:
        """How many steps Adam has made; None before the first."""
        return copy.deepcopy(next(iter(self.states.values()))["step"]) if self.states else None

    def read(self, name: str, begin: int, size: int, moment: str = "") -> torch.Tensor:
        """Elements of a parameter, float32 [size], from ``begin`` on of all that it has, or one of their moments."""
        found, first = [], 0
        for part, master, at, there in self._places[name]:
            start, stop = max(begin, first) - first, min(begin + size, first + there) - first
            if start < stop:
                tensor = part.states[master][moment] if moment else part.masters[master]
                found.append(tensor.view(-1)[at + start : at + stop])
            first += there
        return torch.cat(found)


@torch.no_grad()
def reshard(old: Path, new: Path, rank: int, shapes: Shapes) -> None:
    """Fill what ``rank`` has written into ``new`` with the numbers of ``old``; both are folders of DeepSpeed's.

    Raises ModelError where ``old`` is of another model.
    """
    numbers, parts, changed = Numbers(old, shapes), read_parts(new, shapes), {}
    if rank < len(parts):
        _fill(parts[rank], _sizes(parts[:rank]), numbers)
        changed[parts[rank].file] = parts[rank].content
    if rank == 0 and (new / MODEL).exists():  # below ZeRO-3 the model is there as well
        model = changed.setdefault(new / MODEL, _load(new / MODEL))["module"]
        for name, shape in shapes.items():
            model[name].copy_(numbers.read(name, 0, prod(shape)).view(shape))
    for file, content in changed.items():
        filled = file.with_suffix(".filled")  # beside it: this process and others have the file mapped
        torch.save(content, filled)
        filled.replace(file)


def _sizes(parts: list[Part]) -> Mapping[str, int]:
    """How many elements of each parameter the parts hold."""
    found: dict[str, int] = defaultdict(int)
    for name, _, size in (run for part in parts for runs in part.runs for run in runs):
        found[name] += size
    return found


def _fill(part: Part, before: Mapping[str, int], numbers: Numbers) -> None:
    """``before``: how many elements of each parameter the ranks before this one hold."""
    for index, (master, runs, padding) in enumerate(zip(part.masters, part.runs, part.padding, strict=True)):
        stepped = MOMENTS if numbers.states else ()
        moments = {m: torch.zeros(master.numel() + padding) if padding else torch.zeros_like(master) for m in stepped}
        for name, at, size in (run for run in runs if run[2]):
            for moment, target in {"": master, **moments}.items():
                target.view(-1)[at : at + size] = numbers.read(name, before.get(name, 0), size, moment)
        if moments:
            part.states[index] = {"step": numbers.step, **moments}
    if part.about.get("dynamic_loss_scale") and numbers.about.get("dynamic_loss_scale"):  # float16
        _set_loss_scale(part.about, _loss_scale(numbers.about))


def _loss_scale(about: Mapping[str, Any]) -> float:
    return about["loss_scaler"].cur_scale if "loss_scaler" in about else about["cur_scale"]


def _set_loss_scale(about: dict[str, Any], scale: float) -> None:
    if "loss_scaler" in about:
        about["loss_scaler"].cur_scale = scale
    else:
        about["cur_scale"] = scale
