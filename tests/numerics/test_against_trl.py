"""Losses and advantages against TRL's, on the same numbers. TRL's methods run on stand-ins for a trainer.

A literal loop shares its author's misreading of a paper; another implementation does not. All comparisons that need TRL
are in this file, because importing it takes many seconds.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from agrl.algorithms import advantages as module
from agrl.algorithms.advantages import decomposed_advantages, group_advantages, whiten
from agrl.algorithms.divergence import kl_estimate
from agrl.algorithms.policy_loss import LossSettings, policy_loss
from agrl.algorithms.preference import dpo_loss
from tests.numerics.trl_trainers import LIMIT, dpo_trainer, grpo_inputs, grpo_trainer, scoring_trainer
from tests.unit.algorithms.build import gradients, responses, token_batch

LENGTHS = (3, 1, 7, 4, 1, 5)
TRL_EPSILON = 1e-4  # added to the deviation; ours is 1e-6


@pytest.fixture(scope="module")
def trl():
    import trl.import_utils as utilities

    with pytest.MonkeyPatch.context() as patch:  # else it imports vLLM as well, of which nothing is used here
        patch.setattr(utilities, "is_vllm_available", lambda *_, **__: False)
        from trl import DPOTrainer, GRPOTrainer, RLOOTrainer
    return SimpleNamespace(DPO=DPOTrainer, GRPO=GRPOTrainer, RLOO=RLOOTrainer)


# ---- policy losses --------------------------------------------------------------------------------------------------

PRESETS = {  # name: (ours, aggregation, TRL's loss_type and importance_sampling_level)
    "grpo": (LossSettings(clip_high=0.2), "sequence", "grpo", "token"),
    "grpo-kl": (LossSettings(clip_high=0.2, kl_coef=0.04), "sequence", "grpo", "token"),
    "dapo": (LossSettings(), "token", "dapo", "token"),
    "dapo-entropy": (LossSettings(entropy_coef=0.1), "token", "dapo", "token"),
    "dr_grpo": (LossSettings(clip_high=0.2), "constant", "dr_grpo", "token"),
    "gspo": (LossSettings(ratio="sequence", clip_low=3e-4, clip_high=4e-4), "sequence", "grpo", "sequence"),
    "gspo-wide": (LossSettings(ratio="sequence"), "sequence", "grpo", "sequence"),
    "gspo-kl": (LossSettings(ratio="sequence", kl_coef=0.1), "sequence", "grpo", "sequence"),
}


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("seed", range(3))
def test_policy_losses(trl, name, seed):
    s, aggregation, loss_type, level = PRESETS[name]
    items = responses(LENGTHS, seed, spread=0.3)
    for r in items:  # the engines agree: no correction
        r.rollout = r.old
    ours = policy_loss(token_batch(items, aggregation, LIMIT), s)[0].sum()
    trainer = grpo_trainer(items, s, loss_type, level)
    theirs = trl.GRPO._compute_loss(trainer, None, grpo_inputs(items, torch.ones(()).double()))
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(gradients(ours, items), gradients(theirs, items), rtol=1e-9, atol=1e-12)


# ---- advantages, importance weights, the KL in the reward ----------------------------------------------------------


def their_scores(trainer_class, trainer, count: int) -> dict[str, torch.Tensor]:
    return trainer_class._generate_and_score_completions(trainer, [{"prompt": "x"}] * count)


def some_rewards(components=1) -> tuple[np.ndarray, np.ndarray]:
    """Three groups of four: ordinary, equal, and one with rewards that could not be computed; and which are valid."""
    rewards = np.random.default_rng(0).random((12, components))
    rewards[4:8] = 0.5
    rewards[9:11] = np.nan
    return rewards, ~np.isnan(rewards).any(1)


@pytest.mark.parametrize(("kind", "scale"), [("grpo", "group"), ("dr_grpo", "none")])
def test_advantages_of_grpo(trl, monkeypatch, kind, scale):
    monkeypatch.setattr(module, "EPSILON", TRL_EPSILON)
    rewards, valid = some_rewards()
    theirs = their_scores(trl.GRPO, scoring_trainer(rewards, 4, scale_rewards=scale), 12)["advantages"]
    groups = [slice(i, i + 4) for i in (0, 4, 8)]
    ours = np.concatenate([group_advantages(rewards[g, 0], valid[g], kind) for g in groups])
    np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-9)


def test_advantages_of_gdpo(trl, monkeypatch):
    monkeypatch.setattr(module, "EPSILON", TRL_EPSILON)
    rewards, _ = some_rewards(3)
    rewards = np.nan_to_num(rewards, nan=0.25)
    weights = np.array([0.2, 0.3, 0.5])
    trainer = scoring_trainer(
        rewards, 4, multi_objective_aggregation="normalize_then_sum", reward_weights=torch.tensor(weights)
    )
    theirs = their_scores(trl.GRPO, trainer, 12)["advantages"]
    groups = [rewards[i : i + 4] for i in (0, 4, 8)]
    ours = whiten(np.concatenate([decomposed_advantages(g, np.ones((4, 3), bool), weights) for g in groups]))
    np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-9)


def test_advantages_of_rloo_with_the_kl_in_the_reward(trl):
    rewards, valid = some_rewards()
    items = responses((3, 1, 7, 4) * 3, seed=1)
    trainer = scoring_trainer(rewards, 4, items, beta=0.05)
    trainer._generate = lambda prompts, generate=trainer._generate: [generate(prompts)[i] for i in (0, 1, 3)]
    theirs = their_scores(trl.RLOO, trainer, 12)["advantages"]
    kl = np.array([kl_estimate(r.old, r.reference, "k1").sum().item() for r in items])
    penalised = rewards[:, 0] - 0.05 * kl
    ours = np.concatenate([group_advantages(penalised[i : i + 4], valid[i : i + 4], "rloo") for i in (0, 4, 8)])
    np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-6)  # they pass log-probabilities on in float32


@pytest.mark.parametrize(("kind", "mode"), [("truncate", "token_truncate"), ("mask", "token_mask")])
def test_importance_corrections(trl, kind, mode):
    rewards, cap = some_rewards()[0], 1.2
    items = responses(LENGTHS * 2, seed=4)
    trainer = scoring_trainer(
        rewards,
        4,
        items,
        use_vllm=True,
        vllm_importance_sampling_correction=True,
        vllm_importance_sampling_mode=mode,
        vllm_importance_sampling_clip_min=1 / cap if kind == "mask" else None,
        vllm_importance_sampling_clip_max=cap,
    )
    scores = their_scores(trl.GRPO, trainer, 12)
    for r, advantage in zip(items, scores["advantages"].tolist(), strict=True):
        r.advantage = advantage
    s = LossSettings(importance=kind, importance_cap=cap)
    ours, statistics = policy_loss(token_batch(items), s)
    inputs = grpo_inputs(items, scores["importance_sampling_ratio"])
    theirs = trl.GRPO._compute_loss(grpo_trainer(items, s, "dapo", "token"), None, inputs)
    torch.testing.assert_close(ours.sum(), theirs, rtol=0, atol=1e-6, check_dtype=False)
    torch.testing.assert_close(gradients(ours.sum(), items), gradients(theirs, items), rtol=0, atol=1e-6)
    assert kind != "mask" or 0 < statistics["masked"] < statistics["on_policy"]


# ---- preferences ----------------------------------------------------------------------------------------------------


def our_dpo(chosen, rejected, beta, **settings):
    total = lambda items, name: torch.stack([getattr(r, name).sum() for r in items])  # noqa: E731
    sums = [total(items, name) for name in ("new", "reference") for items in (chosen, rejected)]
    tokens = torch.tensor([len(r) for r in chosen])
    loss, statistics = dpo_loss(*sums, beta, chosen_tokens=tokens, **settings)
    return loss.mean(), statistics


@pytest.mark.parametrize(
    ("lengths", "ours", "theirs"),
    [
        ((3, 1, 4), {}, {"loss_types": ["sigmoid"], "loss_weights": [1.0]}),
        # of the pair (its "aot" sorts pairs, of which there is one): with label smoothing
        ((5,), {"label_smoothing": 0.2}, {"loss_types": ["aot"], "loss_weights": [1.0], "label_smoothing": 0.2}),
        # TRL's token mean is over the batch, ours over each response: the same for equal lengths
        ((4, 4), {"sft_coef": 0.5}, {"loss_types": ["sigmoid", "sft"], "loss_weights": [1.0, 0.5]}),
    ],
    ids=["dpo", "smoothed", "with-sft"],
)
def test_preference_losses(trl, lengths, ours, theirs):
    chosen, rejected = responses(lengths, seed=5), responses(lengths[::-1], seed=6)
    trainer, inputs = dpo_trainer(chosen, rejected, beta=0.3, **theirs)
    expected, metrics = trl.DPO._compute_loss(trainer, trainer.model, inputs, False), trainer._metrics["train"]
    found, statistics = our_dpo(chosen, rejected, 0.3, **ours)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    items = [*chosen, *rejected]
    torch.testing.assert_close(gradients(found, items), gradients(expected, items), rtol=1e-9, atol=1e-12)
    assert statistics["reward_margin"].item() / len(chosen) == pytest.approx(metrics["rewards/margins"][0], abs=1e-6)
    assert statistics["reward_accuracy"].item() / len(chosen) == pytest.approx(metrics["rewards/accuracies"][0])
