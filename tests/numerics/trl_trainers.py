"""Stand-ins for TRL's trainers: what their methods that compute losses and advantages look at, and no more."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import torch

from agrl.algorithms.policy_loss import LossSettings
from tests.unit.algorithms.build import responses

LIMIT = 9  # tokens of the longest response there can be


def accelerator():
    same = lambda x, **_: x  # noqa: E731
    return SimpleNamespace(
        num_processes=1,
        process_index=0,
        device=torch.device("cpu"),
        sync_gradients=True,
        gather=same,
        gather_for_metrics=same,
        reduce=same,
    )


class Model(torch.nn.Module):
    """What a trainer asks of a model: a call, and a flag."""

    is_gradient_checkpointing = False

    def __init__(self, outputs=None) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, **_):
        return self.outputs


def padded(items, name):
    rows = [getattr(r, name) for r in items]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)


def grpo_trainer(items, s: LossSettings, loss_type: str, level: str) -> SimpleNamespace:
    args = SimpleNamespace(use_bias_correction_kl=False, delta=None, steps_per_generation=1)
    return SimpleNamespace(
        args=args,
        loss_type=loss_type,
        importance_sampling_level=level,
        epsilon_low=s.clip_low,
        epsilon_high=s.clip_high,
        beta=s.kl_coef,
        max_completion_length=LIMIT,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        use_vllm=True,
        vllm_importance_sampling_correction=True,
        aux_loss_enabled=False,
        current_gradient_accumulation_steps=1,
        _entropy_bonus_enabled=s.entropy_coef > 0,
        entropy_coef=s.entropy_coef,
        use_adaptive_entropy=False,
        model=Model(),
        accelerator=accelerator(),
        _metrics={"train": defaultdict(list)},
        _get_per_token_logps_and_entropies=lambda *_, **__: (padded(items, "new"), padded(items, "entropy"), None),
    )


def grpo_inputs(items, importance: torch.Tensor) -> dict[str, torch.Tensor]:
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones(len(r)).double() for r in items], batch_first=True)
    ids = torch.zeros_like(mask, dtype=torch.int64)
    return {
        "prompt_ids": ids[:, :1],
        "prompt_mask": mask[:, :1],
        "completion_ids": ids,
        "completion_mask": mask,
        "advantages": torch.tensor([r.advantage for r in items], dtype=torch.float64),
        "old_per_token_logps": padded(items, "old"),
        "ref_per_token_logps": padded(items, "reference"),
        "importance_sampling_ratio": importance,
        "num_items_in_batch": mask.sum(),
    }


def scoring_trainer(rewards: np.ndarray, group: int, items=None, **settings) -> SimpleNamespace:
    """A trainer that has just generated one-token responses, or ``items``, with these ``rewards`` [N, components]."""
    count = len(rewards)
    items = items or responses([1] * count)
    names = [f"reward{i}" for i in range(rewards.shape[1])]
    ids, sampled = [[0] * len(r) for r in items], [r.rollout.tolist() for r in items]
    trainer = SimpleNamespace(
        **{
            "args": SimpleNamespace(
                per_device_train_batch_size=count,
                steps_per_generation=1,
                gradient_accumulation_steps=1,
                gradient_checkpointing_kwargs=None,
                report_to=[],
            ),
            "model": Model(),
            "ref_model": Model(),
            "accelerator": accelerator(),
            "_tokenizer": SimpleNamespace(pad_token_id=0),
            "num_generations": group,
            "num_iterations": 1,
            "reward_weights": torch.ones(rewards.shape[1]).double(),
            "reward_func_names": names,
            "reward_funcs": names,
            "reward_clip_range": None,
            "normalize_advantages": False,
            "scale_rewards": "group",
            "multi_objective_aggregation": "sum_then_normalize",
            "beta": 0.0,
            "use_vllm": False,
            "vllm_importance_sampling_correction": False,
            "environment_factories": None,
            "environments": None,
            "tools": None,
            "pad_to_multiple_of": None,
            "mask_truncated_completions": False,
            "log_multimodal": False,
            "_metrics": {"train": defaultdict(list)},
            "_logs": defaultdict(list) | {"rewards": defaultdict(list), "extra": defaultdict(list)},
            "_pending_extra_logs": {},
            "_pending_metrics": {},
            "_generate": lambda prompts: (ids, ids, None, ids, sampled, {}, None, None),
            "_calculate_rewards": lambda *_: torch.tensor(rewards),
            **settings,
        }
    )
    trainer._get_per_token_logps_and_entropies = lambda model, *_, **__: (
        padded(items, "reference" if model is trainer.ref_model else "old"),
        None,
        None,
    )
    return trainer


def dpo_trainer(chosen, rejected, **settings) -> tuple[SimpleNamespace, dict[str, torch.Tensor]]:
    """A trainer, and its inputs; its models give log-probabilities of the tokens after each one."""
    items = [*chosen, *rejected]
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones(len(r) + 1).long() for r in items], batch_first=True)
    mask[:, 0] = 0  # the prompt: one token
    zeros = torch.zeros_like(mask[:, 1:]).double()
    policy, reference = (
        Model(SimpleNamespace(log_probs=padded(items, name), entropy=zeros, mean_logits=zeros, is_top1=zeros.bool()))
        for name in ("new", "reference")
    )
    trainer = SimpleNamespace(
        **{
            "model": policy,
            "ref_model": reference,
            "accelerator": accelerator(),
            "args": SimpleNamespace(gradient_checkpointing_kwargs=None),
            "aux_loss_enabled": False,
            "ld_alpha": None,
            "precompute_ref_logps": False,
            "f_divergence_type": "reverse_kl",
            "use_weighting": False,
            "label_smoothing": 0.0,
            "_metrics": {"train": defaultdict(list)},
            "_total_train_tokens": 0,
            "_tp_size": 1,
            **settings,
        }
    )
    return trainer, {"input_ids": mask, "attention_mask": mask, "completion_mask": mask}
