"""Preference training on an engine of a few lines: DPO's gradient, however the pairs are split."""

import pytest
import torch
from torch.nn.functional import logsigmoid

from agrl.algorithms.batch import PreferencePair, plan_minibatches, plan_pairs
from agrl.algorithms.preference import PreferenceSettings
from agrl.models.layout import pad_batch
from agrl.models.logprobs import PolicyModel
from tests.unit.learner.test_rank import models, paths, rank, sequences  # noqa: F401

SETTINGS = PreferenceSettings(beta=0.5, label_smoothing=0.1, sft_coef=0.2)


def pairs():
    found = sequences(8)
    return [
        PreferencePair(a, b, -30.0 + i, -25.0 - i) for i, (a, b) in enumerate(zip(found[::2], found[1::2], strict=True))
    ]


def literal(lm):
    """The mean loss over the pairs, one response at a time."""
    policy = PolicyModel(lm)
    logp = lambda s: policy(pad_batch([s.prompt_ids], [s.response_ids]))[0].sum()  # noqa: E731
    losses = []
    for pair in pairs():
        chosen = logp(pair.chosen)
        margin = 0.5 * ((chosen - pair.reference_chosen) - (logp(pair.rejected) - pair.reference_rejected))
        loss = -0.9 * logsigmoid(margin) - 0.1 * logsigmoid(-margin)
        losses.append(loss - 0.2 * chosen / len(pair.chosen.response_ids))
    policy.zero_grad()
    loss = torch.stack(losses).mean()
    loss.backward()
    gradient = torch.cat([p.grad.flatten().clone() for p in policy.parameters()])
    policy.zero_grad()
    return loss.item(), gradient


@pytest.mark.parametrize(("ranks", "budget"), [(1, 10_000), (1, 50), (2, 90), (6, 10_000)])
def test_gradient_and_loss_are_dpos(models, ranks, budget):  # noqa: F811
    loss, gradient = literal(models[0])
    workers = [rank(models, i, ranks) for i in range(ranks)]
    plan = plan_pairs(pairs(), ranks, budget)
    sums = [w.train_preference(pairs(), plan, SETTINGS, 1e-3) for w in workers]
    found = torch.stack([w.model.engine.steps[0] for w in workers]).mean(0)
    assert sum(s.total["loss"] for s in sums) == pytest.approx(loss, rel=1e-5)
    assert sum(s.total["pairs"] for s in sums) == 4
    torch.testing.assert_close(found, gradient, rtol=1e-4, atol=1e-6)


def test_log_probabilities_of_whole_responses(models):  # noqa: F811
    batch = sequences()
    found = rank(models).sequence_logprobs(batch, plan_minibatches(batch, 1, 1, 100))
    for i, s in enumerate(batch):
        expected = PolicyModel(models[0])(pad_batch([s.prompt_ids], [s.response_ids]))[0].sum().item()
        assert found[i] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("packing", ["packed", "padded"])
def test_pairs_stay_together_within_the_budget(packing):
    plan = plan_pairs(pairs(), 2, 100, packing)
    assert sorted(i for part in plan.micro for micro in part for i in micro) == [0, 1, 2, 3]
    assert len({len(part) for part in plan.micro}) == 1
    for micro in (m for part in plan.micro for m in part if len(m) > 1):
        lengths = [s.length for i in micro for s in (pairs()[i].chosen, pairs()[i].rejected)]
        assert (sum(lengths) if packing == "packed" else len(lengths) * max(lengths)) <= 100
    assert sum(plan.weights.values()) == pytest.approx(1.0)
