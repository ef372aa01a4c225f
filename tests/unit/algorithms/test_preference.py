"""The preference loss against a literal loop over pairs, and its limits."""

import math

import pytest
import torch

from agrl.algorithms.preference import dpo_loss


def pairs(n=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logps = [-20 * torch.rand(n, generator=generator, dtype=torch.float64) for _ in range(4)]
    return [x.requires_grad_() for x in logps[:2]] + logps[2:], torch.arange(1, n + 1)


@pytest.mark.parametrize(("smoothing", "sft"), [(0.0, 0.0), (0.2, 0.0), (0.1, 0.7)])
def test_loss_and_gradients_equal_a_literal_loop(smoothing, sft):
    (chosen, rejected, ref_chosen, ref_rejected), tokens = pairs()
    loss, _ = dpo_loss(chosen, rejected, ref_chosen, ref_rejected, 0.3, smoothing, sft, tokens)
    sigmoid = lambda x: 1 / (1 + (-x).exp())  # noqa: E731
    for i in range(5):
        m = 0.3 * ((chosen[i] - ref_chosen[i]) - (rejected[i] - ref_rejected[i]))
        expected = -(1 - smoothing) * sigmoid(m).log() - smoothing * sigmoid(-m).log() - sft * chosen[i] / (i + 1)
        torch.testing.assert_close(loss[i], expected)
        for leaf in (chosen, rejected):
            (found,) = torch.autograd.grad(loss[i], leaf, retain_graph=True)
            (literal,) = torch.autograd.grad(expected, leaf, retain_graph=True)
            torch.testing.assert_close(found, literal)


def test_statistics_are_sums_over_pairs():
    (chosen, rejected, ref_chosen, ref_rejected), _ = pairs()
    _, found = dpo_loss(chosen, rejected, ref_chosen, ref_rejected, 0.5)
    margins = [0.5 * ((chosen[i] - ref_chosen[i]) - (rejected[i] - ref_rejected[i])).item() for i in range(len(chosen))]
    assert found["reward_margin"].item() == pytest.approx(sum(margins))
    assert found["reward_accuracy"] == sum(m > 0 for m in margins)
    assert found["reward_chosen"] - found["reward_rejected"] == pytest.approx(sum(margins))
    assert not any(value.requires_grad for value in found.values())


def test_at_the_start_the_loss_is_log_2_and_far_out_it_stays_finite():
    same = torch.tensor([-3.0])
    assert dpo_loss(same, same, same, same, 0.1)[0].item() == pytest.approx(math.log(2))
    far = dpo_loss(torch.tensor([-1e6]), torch.tensor([0.0]), same, same, 1.0)[0]
    assert torch.isfinite(far).all()


def test_the_sft_term_needs_lengths():
    (chosen, rejected, ref_chosen, ref_rejected), _ = pairs()
    with pytest.raises(ValueError, match="chosen_tokens"):
        dpo_loss(chosen, rejected, ref_chosen, ref_rejected, 0.1, sft_coef=1.0)
