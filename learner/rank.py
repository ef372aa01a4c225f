"""One data-parallel rank of the learner: a plain class; the driver makes it a Ray actor or keeps it in its process."""

from __future__ import annotations

import socket
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from agrl.algorithms.batch import Minibatch, TrainSequence
from agrl.algorithms.divergence import kl_estimate
from agrl.algorithms.policy_loss import LossSettings, TokenBatch, policy_loss
from agrl.errors import DivergenceError
from agrl.models.build import load_model, save_model
from agrl.models.logprobs import PaddedBatch, PolicyModel, pad_batch
from agrl.models.tokens import load_tokenizer
from agrl.models.weights import PackedTensor, pack
from agrl.relevance.records import Provenance
from learner.engine import TrainingEngine, init_process_group
from learner.sync_check import SyncGap


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


@dataclass
class StepSums:
    """Statistics of one training call on one rank: ``total`` adds over ranks, ``maximum`` takes the largest."""

    total: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    maximum: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def add(self, values: dict[str, float]) -> None:
        for name, value in values.items():
            self.total[name] += float(value)


class LearnerRank:
    """Trains its share of every batch; all ranks make the same sequence of calls."""

    def __init__(self, settings: RankSettings, rank: int, world: int) -> None:
        self.settings, self.rank, self.world = settings, rank, world

    def rendezvous(self) -> str:
        """A free "host:port" on this rank's machine, for the process group."""
        host = socket.gethostbyname(socket.gethostname()) if self.world > 1 else "127.0.0.1"
        with socket.socket() as s:
            s.bind(("", 0))
            return f"{host}:{s.getsockname()[1]}"

    def setup(self, address: str) -> int:
        """Join the process group, load the model, build the engine; returns the number of parameters."""
        s = self.settings
        if s.threads:
            torch.set_num_threads(s.threads)
        init_process_group(self.rank, self.world, address, s.timeout_s)
        self.tokenizer = load_tokenizer(s.model_path)
        lm = load_model(s.model_path, s.dtype)
        parameters = lm.num_parameters()
        if s.gradient_checkpointing:
            lm.gradient_checkpointing_enable({"use_reentrant": False})
        lm.train()
        self.engine = TrainingEngine(lm, s.zero_stage, s.dtype, s.lr, s.weight_decay, s.max_grad_norm)
        self.reference = None
        if s.reference:
            self.reference = PolicyModel(load_model(s.model_path, s.dtype)).to(self.engine.device).eval()
            self.reference.requires_grad_(False)
        return parameters

    # ---- training -------------------------------------------------------------------------------------------------

    def train_sft(self, sequences: list[TrainSequence], plan: list[Minibatch], lr: float) -> StepSums:
        """Cross-entropy of the responses, one optimizer step a minibatch, weighted by the plan."""
        sums = StepSums()
        for minibatch in plan:
            for micro in minibatch.micro[self.rank]:
                logprobs, _ = self.engine.logprobs(self._pad(sequences, micro), 1.0)
                loss = -(logprobs * self._weights(sequences, minibatch, micro)).sum()
                self.engine.backward(loss * self.world)
                sums.add({"loss": loss.item(), "tokens": len(logprobs) if micro else 0})
            self._step(sums, lr)
        return sums

    def train_policy(
        self,
        sequences: list[TrainSequence],
        plan: list[Minibatch],
        loss: LossSettings,
        temperature: float,
        lr: float,
        version: int,
        max_mean_gap: float | None,
    ) -> StepSums:
        """One batch of reinforcement learning: an optimizer step a minibatch.

        ``version`` is the learner's; rollouts of the same version are compared with it before the first update, and
        beyond ``max_mean_gap`` (None: no check) WeightSyncError is raised with the weights untouched.
        """
        sums, gap = StepSums(), SyncGap()
        several = len(plan) > 1
        old = self._frozen_logprobs(self.engine.logprobs, sequences, plan, temperature) if several else {}
        reference = (
            self._frozen_logprobs(self._reference_logprobs, sequences, plan, temperature) if loss.kl_coef > 0 else {}
        )
        for i, learner in old.items():
            _compare(gap, sequences[i], learner, version)
        for number, minibatch in enumerate(plan):
            for micro in minibatch.micro[self.rank]:
                padded = self._pad(sequences, micro)
                logprobs, entropy = self.engine.logprobs(padded, temperature, loss.entropy_coef > 0)
                tokens = self._token_batch(sequences, minibatch, micro, logprobs, entropy, old, reference)
                if not several:
                    _compare_flat(gap, sequences, micro, tokens.logprobs, version)
                token_loss, statistics = policy_loss(tokens, loss)
                total = token_loss.sum()
                self.engine.backward(total * self.world)
                if micro:
                    sums.add({"loss": total.item(), "tokens": len(token_loss), **statistics})
                    sums.add({"entropy": entropy.detach().sum().item()})
            if number == 0 and max_mean_gap is not None:
                gap.check(version, max_mean_gap)
            self._step(sums, lr)
        sums.add(gap.sums())
        sums.maximum["gap_max"] = gap.maximum
        return sums

    def _token_batch(
        self,
        sequences: list[TrainSequence],
        minibatch: Minibatch,
        micro: list[int],
        logprobs: torch.Tensor,
        entropy: torch.Tensor,
        old: dict[int, np.ndarray],
        reference: dict[int, np.ndarray],
    ) -> TokenBatch:
        weights = self._weights(sequences, minibatch, micro)
        if not micro:
            zero, index = torch.zeros_like(logprobs), torch.zeros_like(logprobs, dtype=torch.int64)
            return TokenBatch(logprobs, zero, zero, zero, index.to(torch.int8), index, weights, entropy, zero)
        each = lambda values, dtype: self._per_token(sequences, micro, values, dtype)  # noqa: E731
        flat = lambda parts: torch.from_numpy(np.concatenate(parts)).float().to(logprobs.device)  # noqa: E731
        return TokenBatch(
            logprobs=logprobs,
            old_logprobs=flat([old[i] for i in micro]) if old else logprobs.detach(),
            rollout_logprobs=flat([sequences[i].rollout_logprobs for i in micro]),
            advantages=each([sequences[i].advantage for i in micro], torch.float32),
            provenance=each([int(sequences[i].provenance) for i in micro], torch.int8),
            sequences=each(list(range(len(micro))), torch.int64),
            weights=weights,
            entropy=entropy,
            reference_logprobs=flat([reference[i] for i in micro]) if reference else None,
        )

    def _weights(self, sequences: list[TrainSequence], minibatch: Minibatch, micro: list[int]) -> torch.Tensor:
        """What every token weighs in the loss, float32 [tokens]: 0 for the dummy that only keeps the ranks in step."""
        if not micro:
            return torch.zeros(1, device=self.engine.device)
        return self._per_token(sequences, micro, [minibatch.weights[i] for i in micro], torch.float32)

    def _per_token(
        self, sequences: list[TrainSequence], micro: list[int], values: list, dtype: torch.dtype
    ) -> torch.Tensor:
        lengths = torch.tensor([len(sequences[i].response_ids) for i in micro])
        return torch.tensor(values, dtype=dtype).repeat_interleave(lengths).to(self.engine.device)

    def kl_to_reference(
        self, sequences: list[TrainSequence], plan: list[Minibatch], temperature: float, estimator: str
    ) -> dict[int, float]:
        """KL(policy || reference) estimated from each of this rank's responses: index -> sum over its tokens, nats.

        Both are computed here, under the prompt that a response is trained under: guided answers have no rollout
        log-probabilities under it, and the sum would add up the two engines' rounding.
        """
        policy = self._frozen_logprobs(self.engine.logprobs, sequences, plan, temperature)
        reference = self._frozen_logprobs(self._reference_logprobs, sequences, plan, temperature)
        tensor = torch.from_numpy
        return {i: float(kl_estimate(tensor(policy[i]), tensor(reference[i]), estimator).sum()) for i in policy}

    @torch.no_grad()
    def _frozen_logprobs(
        self, forward, sequences: list[TrainSequence], plan: list[Minibatch], temperature: float
    ) -> dict[int, np.ndarray]:
        """Log-probabilities of this rank's responses before any update: index -> float32 [T]."""
        found: dict[int, np.ndarray] = {}
        for minibatch in plan:
            for micro in minibatch.micro[self.rank]:
                logprobs, _ = forward(self._pad(sequences, micro), temperature)
                ends = np.cumsum([len(sequences[i].response_ids) for i in micro])[:-1] if micro else []
                found.update(zip(micro, np.split(logprobs.cpu().numpy(), ends), strict=False))
        return found

    def _reference_logprobs(self, batch: PaddedBatch, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
        return self.reference(batch.to(self.engine.device), temperature)

    def _pad(self, sequences: list[TrainSequence], micro: list[int]) -> PaddedBatch:
        if not micro:  # collectives need every rank to run a forward pass; its loss is multiplied by 0
            return pad_batch([np.zeros(1, np.int32)], [np.zeros(1, np.int32)])
        return pad_batch([sequences[i].prompt_ids for i in micro], [sequences[i].response_ids for i in micro])

    def _step(self, sums: StepSums, lr: float) -> None:
        if not np.isfinite(sums.total["loss"]):
            raise DivergenceError(
                f"the loss is not finite on learner rank {self.rank}; the weights were not updated",
                hint="lower learner.lr or learner.max_grad_norm and resume from the last checkpoint",
            )
        norm = self.engine.step(lr)
        sums.maximum["grad_norm"] = max(sums.maximum["grad_norm"], norm) if np.isfinite(norm) else norm
        if not np.isfinite(norm):
            raise DivergenceError(
                f"the gradient norm is not finite on learner rank {self.rank}",
                hint="lower learner.lr and resume from the last checkpoint: the weights of this process are spoilt",
            )

    # ---- weights and checkpoints ----------------------------------------------------------------------------------

    def weights(self) -> list[PackedTensor]:
        """All parameters, packed for the rollout actors, on rank 0; an empty list on the others (who must call too)."""
        return [packed for packed in map(self._packed, self.engine.full_parameters()) if packed is not None]

    def _packed(self, named: tuple[str, torch.Tensor]) -> PackedTensor | None:
        return pack(*named) if self.rank == 0 else None

    def save(self, folder: str) -> None:
        """Write this rank's part of a checkpoint: model, optimizer, random state."""
        self.engine.save(Path(folder))
        torch.save(torch.get_rng_state(), Path(folder) / f"random-rank{self.rank}.pt")

    def load(self, folder: str) -> None:
        """Restore what ``save`` wrote."""
        self.engine.load(Path(folder))
        torch.set_rng_state(torch.load(Path(folder) / f"random-rank{self.rank}.pt", weights_only=True))

    def export(self, folder: str) -> None:
        """Write an ordinary Hugging Face folder (from rank 0; every rank must call)."""
        state = {name: tensor.cpu().clone() for name, tensor in self.engine.full_parameters()}
        if self.rank == 0:
            lm = self.engine.lm
            if self.settings.zero_stage == 3:
                lm = type(lm)(lm.config)  # an ungathered model would save empty parameters
                lm.load_state_dict(state, strict=False)
                lm.tie_weights()
                lm = lm.to(getattr(torch, self.settings.dtype))
            save_model(lm, self.tokenizer, Path(folder))


def _compare(gap: SyncGap, sequence: TrainSequence, learner: np.ndarray, version: int) -> None:
    if sequence.provenance == Provenance.ON_POLICY and sequence.version == version:
        gap.add(sequence.actor, learner, sequence.rollout_logprobs)


def _compare_flat(
    gap: SyncGap, sequences: list[TrainSequence], micro: list[int], logprobs: torch.Tensor, version: int
) -> None:
    ends = np.cumsum([len(sequences[i].response_ids) for i in micro])[:-1] if micro else []
    for i, learner in zip(micro, np.split(logprobs.detach().cpu().numpy(), ends), strict=False):
        _compare(gap, sequences[i], learner, version)
