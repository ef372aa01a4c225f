"""One data-parallel rank of the learner: a plain class; the driver makes it a Ray actor or keeps it in its process."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import set_num_threads  # vLLM puts one that does nothing into torch: an engine may share this process

from agrl.algorithms.batch import Minibatch, TrainSequence
from agrl.errors import LearnerError
from agrl.models.adapters import add_adapters
from agrl.models.build import load_config, load_model
from agrl.models.dropout import check_repeatable, random_rates
from agrl.models.logprobs import PolicyModel
from agrl.models.packing import choose_packing
from agrl.models.probe import check_output_layer
from agrl.models.tokens import load_tokenizer
from agrl.network import Host, this_host
from agrl.transport.collective import Meeting
from agrl.transport.parcel import Parcel, TransferFailed
from learner.adapters import WithoutAdapters, check_merge, served_beside
from learner.engine import TrainingEngine, init_process_group
from learner.export import check_export, export, shapes
from learner.imports import import_libraries
from learner.model import Model, Reference, StepSums
from learner.outgoing import Outgoing
from learner.policy import kl_to_reference, train_policy
from learner.preference import sequence_logprobs, train_preference
from learner.snapshot import Files, read_files, scratch, write_files
from learner.supervised import train_sft
from learner.throughput import ModelCost, Work, peak_operations


@dataclass(frozen=True)
class RankSettings:
    """What a rank is built from; names as in ``learner`` and ``model`` of the configuration."""

    model_path: str
    dtype: str
    zero_stage: int = 0
    lr: float = 1e-6
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    gradient_checkpointing: bool = False
    threads: int = 0
    timeout_s: float = 1800.0
    reference: bool = False  # keep a frozen copy of the model for the KL term
    lora_rank: int = 0  # train low-rank updates of this rank, 0: all weights
    lora_alpha: float = 32.0
    seed: int = 0  # of the low-rank updates' first values
    packing: str = "shared"  # what ``choose_packing`` is to begin with


class LearnerRank:
    """Trains its share of every batch; all ranks make the same sequence of calls."""

    def __init__(self, settings: RankSettings, rank: int, world: int) -> None:
        self.settings, self.rank, self.world = settings, rank, world
        self.model: Model | None = None
        self.outgoing: Outgoing | None = None
        self._snapshot_s, self._updating = 0.0, False
        self._held: dict[int, Files] = {}  # by rank, of ranks on other hosts

    def rendezvous(self) -> str:
        """A free "address:port" of this rank's host, for the process group."""
        host = this_host().address if self.world > 1 else "127.0.0.1"
        with socket.socket() as s:
            s.bind(("", 0))
            return f"{host}:{s.getsockname()[1]}"

    def host(self) -> Host:
        """Where this rank runs."""
        return this_host()

    def setup(self, address: str, one_host: bool = True) -> tuple[str, str]:
        """Join the process group and ``start``. ``one_host``: whether all ranks are on this one."""
        self._own_threads()
        import_libraries()
        init_process_group(self.rank, self.world, address, self.settings.timeout_s, one_host)
        return self.start(self.settings)

    def _own_threads(self) -> None:
        """As many as are set. An engine in the same process (``ray=inline``) takes others, with which sums differ."""
        if self.settings.threads:
            set_num_threads(self.settings.threads)

    def start(self, settings: RankSettings) -> tuple[str, str]:
        """Load the model and build its optimizer anew; returns the packing that it takes, as ``choose_packing`` does.

        Called again it begins another run in the same process, with another model or other settings.
        """
        s, self._updating = settings, False
        self.settings = settings
        torch.manual_seed(s.seed)
        self.tokenizer = load_tokenizer(s.model_path)
        self.rates = random_rates(load_config(s.model_path))  # as published; in training all are 0
        lm = load_model(s.model_path, s.dtype)
        if s.zero_stage < 3:  # tried where it is trained; above, no device may hold it whole
            lm.to("cuda" if torch.cuda.is_available() else "cpu")
        check_output_layer(lm)
        check_repeatable(lm)
        packing, reason = choose_packing(lm, s.packing, torch.cuda.is_available())
        if s.gradient_checkpointing:
            lm.gradient_checkpointing_enable({"use_reentrant": False})
        plain = shapes(lm)
        if s.lora_rank:
            add_adapters(lm, s.lora_rank, s.lora_alpha)
            check_merge(lm)
        check_export(lm, self.tokenizer, plain, self.rates)
        lm.train()
        work = Work(ModelCost.of(lm))
        engine = TrainingEngine(lm, s.zero_stage, s.dtype, s.lr, s.weight_decay, s.max_grad_norm)
        reference = self._reference(engine, packing) if s.reference else None
        self.model = Model(engine, work, reference, self.rank, self.world, packing)
        if self.outgoing is None:
            self.outgoing = Outgoing(engine, self.rank)
        else:
            self.outgoing.serve(engine)
        self.chosen = packing, reason
        return self.chosen

    def hand_over(self) -> None:
        """Another driver goes on with this rank, from a checkpoint that it loads.

        Raises LearnerError where that would not do: it was not set up, or an update broke off and left gradients.
        """
        if self.model is None or self._updating:
            raise LearnerError("an update broke off" if self.model else "it was not set up")

    def packing(self) -> tuple[str, str]:
        """What ``start`` returned."""
        return self.chosen

    def _reference(self, engine: TrainingEngine, packing: str) -> Reference:
        if self.settings.lora_rank:  # the start model is under the adapters
            return WithoutAdapters(engine)
        lm = load_model(self.settings.model_path, self.settings.dtype).to(engine.device)
        choose_packing(lm, packing, torch.cuda.is_available())
        return PolicyModel(lm).eval().requires_grad_(False)

    # ---- training -------------------------------------------------------------------------------------------------

    def train_sft(self, sequences: list[TrainSequence], plan: list[Minibatch], lr: float) -> StepSums:
        """See ``learner.supervised``."""
        return self._measured(train_sft, sequences, plan, lr)

    def train_policy(self, *batch: Any) -> StepSums:
        """See ``learner.policy``."""
        return self._measured(train_policy, *batch)

    def kl_to_reference(self, *batch: Any) -> dict[int, float]:
        """See ``learner.policy``."""
        self._own_threads()
        return kl_to_reference(self.model, *batch)

    def train_preference(self, *batch: Any) -> StepSums:
        """See ``learner.preference``."""
        return self._measured(train_preference, *batch)

    def sequence_logprobs(self, sequences: list[TrainSequence], plan: list[Minibatch]) -> dict[int, float]:
        """See ``learner.preference``."""
        self._own_threads()
        return sequence_logprobs(self.model, sequences, plan)

    def _measured(self, train: Callable[..., StepSums], *batch: Any) -> StepSums:
        """One training call with what passed through the model, the seconds it took, and what the device could do."""
        self._own_threads()
        peak = peak_operations(self.settings.dtype, str(self.model.engine.device))
        self.model.work.sums()  # what came before is not of this call
        begin, self._updating = time.perf_counter(), True
        sums = train(self.model, *batch)
        self._updating = False
        sums.maximum["seconds"] = time.perf_counter() - begin
        sums.add(self.model.work.sums() | {"work_peak": peak})
        return sums

    def rest(self) -> None:
        """Give back the GPU memory that torch keeps for the next batch: another process works there until then."""
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    # ---- weights and checkpoints ----------------------------------------------------------------------------------

    def served_beside(self) -> bool:
        """Whether low-rank updates may travel without the model, see ``learner.adapters``."""
        return served_beside(self.model.engine.lm)

    def open_transport(self, transport: str, meeting: Meeting | None) -> TransferFailed | None:
        """Connect to the engines; the error is returned, because it ends no learner."""
        return self.outgoing.open(transport, meeting)

    def send_weights(self, transport: str, adapters: bool) -> int | TransferFailed:
        """Send all weights, adapters merged, or the adapters alone, to engines that are connected.

        Returns the number of buckets, or why they did not arrive. Every rank that gathers must call; rank 0 knows.
        """
        return self.outgoing.send(transport, adapters)

    def begin_weights(self, transport: str, adapters: bool) -> None:
        """The next bucket is the first: of all weights, adapters merged, or of the adapters alone."""
        self.outgoing.begin(transport, adapters)

    def next_bucket(self) -> bool | TransferFailed:
        """Gather a bucket and begin to send it: whether there was one, or why those before it did not arrive.

        Every rank must call; rank 0 knows.
        """
        return self.outgoing.next()

    def parcel(self) -> Parcel:
        """What the engines are to be given of the bucket."""
        return self.outgoing.parcel

    def _on_first_rank(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Every weight whole; on the other ranks, which help to gather them, none."""
        for named in self.model.engine.full_weights():
            if self.rank == 0:
                yield named

    def save(self, folder: str) -> None:
        """Write this rank's part of a checkpoint: model, optimizer, random state."""
        self.model.engine.save(Path(folder))
        torch.save(torch.get_rng_state(), Path(folder) / f"random-rank{self.rank}.pt")

    def load(self, folder: str) -> None:
        """Restore what ``save`` wrote."""
        self.model.engine.load(Path(folder))
        torch.set_rng_state(torch.load(Path(folder) / f"random-rank{self.rank}.pt", weights_only=True))

    def load_resharded(self, folder: str, place: str) -> None:
        """Restore what other ranks have saved; see ``TrainingEngine.load_resharded``."""
        self.model.engine.load_resharded(Path(folder), Path(place))

    def snapshot(self) -> Files:
        """What ``save`` writes, as a result that stays when this process ends; every rank must call it."""
        began, self._snapshot_s = time.perf_counter(), 0.0
        with scratch(self.model.engine.checkpoint_bytes) as folder:
            self.save(str(folder))
            found = read_files(folder)
        self._snapshot_s = time.perf_counter() - began
        return found

    def snapshot_seconds(self) -> float:
        """What the last ``snapshot`` took, 0 where it failed."""
        return self._snapshot_s

    def hold(self, rank: int, files: Files) -> None:
        """Keep a copy of another rank's snapshot on this host, in the place of the last."""
        self._held[rank] = files

    def restore(self, *parts: Files) -> None:
        """Be as this rank was when it took a snapshot; ``parts``: its own and, below ZeRO-3, that of rank 0."""
        with scratch(sum(content.nbytes for part in parts for content in part.values())) as folder:
            for part in parts:
                write_files(folder, part)
            self.load(str(folder))

    def export(self, folder: str) -> None:
        """Write an ordinary Hugging Face folder (from rank 0; every rank must call)."""
        found = self._on_first_rank()
        if self.rank == 0:
            export(self.model.engine.lm, self.tokenizer, Path(folder), found, self.rates)
        else:
            list(found)
