"""What runs in each of vLLM's workers when weights come: received, checked, loaded bucket by bucket, checked again.

The beginning and the end of a load are those of vLLM's own weight transfer engines; what lies between is ours
(docs/architecture.md says why).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch

from agrl.errors import AgrlError, WeightSyncError
from agrl.network import this_host
from agrl.transport.checksum import MODULUS, bits
from agrl.transport.collective import Meeting
from agrl.transport.named import make_receiver
from agrl.transport.parcel import Parcel, Receiver, is_adapter, unpack

Sums = dict[str, tuple[int, torch.dtype]]
"""vLLM's name of a parameter -> its checksum, and the type that it is kept in."""

LOADED_WRONGLY = "vLLM did not put the weights in the place of the old ones: a version that AGRL was not tested with?"
REARRANGED = ("w13_weight", "w2_weight")  # experts, which GPU builds keep in the layout of their kernel


@dataclass(frozen=True)
class Loaded:
    """What a worker says at the end of a broadcast.

    ``missing``: vLLM's parameters that no weight was for. ``expected``, ``held``: checksums by vLLM's names, of the
    weights that were sent for a parameter and of what this worker has of it.
    """

    missing: set[str]
    expected: dict[str, tuple[int, ...]]
    held: dict[str, int]


def check_held(version: int, workers: Sequence[Loaded]) -> None:
    """Raise WeightSyncError when a parameter is missing or is not what was sent, naming it and this host.

    Of tensor-parallel workers each holds a share of a weight or all of it.
    """
    none_missing(version, set().union(*(worker.missing for worker in workers)))
    for name, parts in workers[0].expected.items():
        held = sum(worker.held.get(name, 0) for worker in workers) % MODULUS
        if held not in _sums(parts, len(workers)):
            sent = sum(parts) % MODULUS
            raise WeightSyncError(_not_what_was_sent(f"parameter {name}", version, held, sent), hint=LOADED_WRONGLY)


def _sums(parts: Sequence[int], workers: int) -> set[int]:
    """The checksums that a parameter of these parts can have over all workers: each holds a part's share, or all of it.

    Of a fused query, key and value the few heads of the last two may be there several times.
    """
    times = [n for n in range(1, workers + 1) if workers % n == 0]
    chosen = product(times, repeat=len(parts)) if len(parts) <= 3 else ([n] * len(parts) for n in times)
    return {sum(n * part for n, part in zip(counts, parts, strict=True)) % MODULUS for counts in chosen}


def check_adapters(version: int, workers: Sequence[tuple[int, int]]) -> None:
    """Raise WeightSyncError when the layers do not hold the low-rank updates that were sent.

    Not of tensor-parallel workers, some of which hold a part of a factor and some all of it.
    """
    sent, held = workers[0]
    if len(workers) == 1 and sent != held:
        what = _not_what_was_sent("the low-rank updates", version, held, sent)
        raise WeightSyncError(what, hint=LOADED_WRONGLY)


def none_missing(version: int, names: set[str]) -> None:
    """Raise WeightSyncError for weights that were not sent: vLLM itself would go on with the old ones."""
    if names:
        raise WeightSyncError(f"weights of version {version}: {len(names)} are missing, such as {min(names)}")


def _not_what_was_sent(what: str, version: int, held: int, sent: int) -> str:
    return (
        f"{what} of version {version} was not loaded as it was sent on host {this_host()}: its checksum is {held:08x}, "
        f"that of the learner's weights {sent:08x}"
    )


def on_worker(worker: Any, method: str, *args: Any) -> Any:
    """Call a method of the worker's ``WorkerWeights``; what ``collective_rpc`` is given.

    An error of ours is returned: of several workers vLLM loses the type of what one raises, and what the others answer.
    """
    if not hasattr(worker, "agrl_weights"):
        worker.agrl_weights = WorkerWeights(worker)
    try:
        return getattr(worker.agrl_weights, method)(*args)
    except AgrlError as error:
        return error


class WorkerWeights:
    """The weights of one worker. Names are the learner's, or vLLM's where it says so."""

    def __init__(self, worker: Any) -> None:
        self._worker, self._model = worker, worker.get_model()
        self._on_cpu = worker.device.type == "cpu"
        self._receivers: dict[str, Receiver] = {}
        self._parts: dict[str, set[str]] = defaultdict(set)  # vLLM's parameter -> the weights that it is made of
        self._parts_known = self._loading = False
        self._undo: list[Callable[[], None]] = []

    def open(self, transport: str, meeting: Meeting | None) -> None:
        """Connect, as the member of ``meeting`` that this worker is. Raises TransferFailed."""
        if old := self._receivers.pop(transport, None):
            old.close()
        mine = meeting and meeting.member(self._worker.rank)
        self._receivers[transport] = make_receiver(transport, self._worker.device, mine)

    def take(self, transport: str, parcels: Sequence[Parcel]) -> None:
        """Receive a bucket that was handed over, and load it. Raises WeightSyncError."""
        if transport not in self._receivers:
            self.open(transport, None)
        self._put(parcels[0], unpack(parcels, self._receivers[transport]))

    def receive(self, transport: str) -> tuple[int, set[str]]:
        """Receive and load bucket after bucket as the learner announces them: how many came, and whose weights.

        A worker that cannot load one still receives the rest, so that the group stays whole and nobody is held up.
        Raises WeightSyncError, also TransferFailed.
        """
        names: set[str] = set()
        buckets, failure = 0, None
        for parcel in self._receivers[transport].announced():
            weights = unpack([parcel], self._receivers[transport])
            buckets += 1
            names |= {entry.name for entry in parcel.entries}
            failure = failure or self._try(parcel, weights)
        if failure:
            raise failure
        return buckets, names

    def _try(self, parcel: Parcel, weights: Iterable[tuple[str, torch.Tensor]]) -> Exception | None:
        try:
            self._put(parcel, weights)
        except Exception as error:
            return error.with_traceback(None)  # it would keep the bucket in memory
        return None

    def _put(self, parcel: Parcel, weights: Iterable[tuple[str, torch.Tensor]]) -> None:
        if parcel.number == 0:
            self._begin(adapters=is_adapter(parcel.entries[0].name))
        self._sent |= {entry.name: (entry.bits, getattr(torch, entry.dtype)) for entry in parcel.entries}
        if self._loading:
            self._load(weights)
        else:
            self._adapters |= {name: tensor.cpu().clone() for name, tensor in weights}

    def _begin(self, adapters: bool) -> None:
        if self._loading:  # a broadcast broke off: its layers are closed as they are, and loaded again
            self._end()
        self._sent: Sums = {}
        self._adapters: dict[str, torch.Tensor] = {}
        if adapters:
            return
        from vllm.model_executor.model_loader.reload import initialize_layerwise_reload

        self._loaded: set[str] | None = set()
        self._packed: Sums = {}
        self._wanted = {_plain(name) for name, _ in self._model.named_parameters()}
        with self._config():
            initialize_layerwise_reload(self._model)
        self._loading = True
        if self._on_cpu:
            self._watch_packing()

    def _load(self, weights: Iterable[tuple[str, torch.Tensor]]) -> None:
        with self._config():
            if self._parts_known:
                return self._count(self._model.load_weights(weights))
            for name, tensor in weights:  # one by one, to learn what becomes of each
                found = self._model.load_weights([(name, tensor)])
                self._count(found)
                for parameter in found or ():
                    self._parts[parameter].add(name)

    def _count(self, found: set[str] | None) -> None:
        """``found``: vLLM's names, None of a model that does not say."""
        self._loaded = None if found is None or self._loaded is None else self._loaded | found

    def finish(self) -> Loaded:
        """All weights are there: put them to use, and sum up what is held."""
        self._end()
        missing = set() if self._loaded is None else self._wanted - self._loaded
        if missing:
            return Loaded(missing, {}, {})
        self._parts_known = True
        expected, held = {}, {}
        for name, (value, dtype) in self._held().items():
            parts = [self._sent[part] for part in self._parts[name]]
            if all(sent_as == dtype for _, sent_as in parts):  # what is kept in another type has other bits
                expected[name], held[name] = tuple(sent for sent, _ in parts), value
        return Loaded(missing, expected, held)

    def _end(self) -> None:
        from vllm.model_executor.model_loader.reload import finalize_layerwise_reload

        with self._config():
            finalize_layerwise_reload(self._model, self._worker.vllm_config.model_config)
        self._loading = False
        while self._undo:
            self._undo.pop()()
        lm_head = getattr(self._model, "lm_head", None)
        if self._on_cpu and hasattr(lm_head, "quant_method"):
            # the CPU build multiplies by a packed copy of the lm_head, which a reload of a tied embedding leaves stale
            lm_head.quant_method.process_weights_after_loading(lm_head)
        if self._worker.vllm_config.lora_config is not None:  # adapters were of the weights before
            self._worker.model_runner.reset_lora_state()

    def _watch_packing(self) -> None:
        """Sum up the weights of a layer before the CPU build packs them away, and let it pack experts again.

        What it keeps of most layers is a copy in the order of its kernels, and no parameter.
        """
        names = {module: name for name, module in self._model.named_modules()}
        for method in {module.quant_method for module in names if getattr(module, "quant_method", None) is not None}:
            if getattr(method, "moe_kernel", None) is not None:
                method.moe_kernel = None  # it packs the experts of a layer only when it makes their kernel
            if hasattr(method, "process_weights_after_loading"):
                original = method.process_weights_after_loading
                method.process_weights_after_loading = partial(self._before_packing, names, original)
                self._undo.append(partial(vars(method).pop, "process_weights_after_loading"))

    def _before_packing(self, names: dict[Any, str], original: Callable[[Any], None], layer: Any) -> None:
        found = {_plain(f"{names[layer]}.{name}"): p for name, p in layer.named_parameters(recurse=False) if p.numel()}
        sums = zip(found.items(), bits(found.values()), strict=True)
        self._packed |= {name: (value, parameter.dtype) for (name, parameter), value in sums}
        original(layer)

    def _held(self) -> Sums:
        """Of vLLM's parameters; of what is packed away, or rearranged, as it was before where that is known."""
        kept = {
            name: parameter
            for name, parameter in ((_plain(name), p) for name, p in self._model.named_parameters())
            if name not in self._packed and parameter.numel() and not name.endswith(REARRANGED)
        }
        sums = zip(kept.items(), bits(kept.values()), strict=True)
        found = self._packed | {name: (value, parameter.dtype) for (name, parameter), value in sums}
        return {name: value for name, value in found.items() if name in self._parts}

    def _config(self) -> Any:
        from vllm.config import set_current_vllm_config

        return set_current_vllm_config(self._worker.vllm_config)

    # ---- adapters -------------------------------------------------------------------------------------------------

    def write_adapters(self, folder: str) -> None:
        """What was received, as a folder that vLLM takes; by one worker of an engine. Raises WeightSyncError."""
        from safetensors.torch import save_file

        if self._worker.rank != 0:
            return
        ranks = {tensor.shape[0] for name, tensor in self._adapters.items() if ".lora_A." in name}
        if len(ranks) != 1:
            raise WeightSyncError(f"low-rank updates of ranks {sorted(ranks)} arrived, where there must be one")
        (rank,) = ranks
        modules = sorted({name.partition(".lora_")[0] for name in self._adapters})
        # B comes with its scale in it
        about = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "bias": "none", "target_modules": modules}
        (Path(folder) / "adapter_config.json").write_text(json.dumps(about))
        named = {f"base_model.model.{name}": tensor for name, tensor in self._adapters.items()}
        save_file(named, Path(folder) / "adapter_model.safetensors")

    def finish_adapters(self) -> tuple[int, int]:
        """The checksum of all low-rank updates that were sent, and that of those which this worker's layers have."""
        layers = [module for module in self._model.modules() if hasattr(module, "lora_a_stacked")]
        stacked = [part for layer in layers for part in (layer.lora_a_stacked, layer.lora_b_stacked)]
        tensors = [t for part in stacked for t in (part if isinstance(part, tuple | list) else (part,))]
        self._adapters = {}
        return sum(value for value, _ in self._sent.values()) % MODULUS, sum(bits(tensors)) % MODULUS


def _plain(name: str) -> str:
    """vLLM's name of a parameter without that of the layer which serves low-rank updates round it."""
    return name.replace(".base_layer.", ".")
