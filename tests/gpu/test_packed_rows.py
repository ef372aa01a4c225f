"""What only a GPU can show: FlexAttention's gradient over packed rows, and bounded memory of the output layer."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen3Config

from agrl.models.layout import pad_batch, share_batch
from agrl.models.logprobs import LOGIT_ELEMENTS, LogprobHead, PolicyModel
from agrl.models.shared_prompt import share_prompts

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

SIZES = [(200, (30, 64, 7)), (5, (90,)), (384, (64,) * 8)]


def make_model():
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=500,
        hidden_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        intermediate_size=256,
        initializer_range=0.1,
    )
    return AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").cuda().train()


def draw(sizes):
    generator = np.random.default_rng(len(sizes))
    tokens = lambda n: generator.integers(0, 500, n)  # noqa: E731
    pairs = [(prompt, tokens(n)) for length, lengths in sizes for prompt in [tokens(length)] for n in lengths]
    return [p for p, _ in pairs], [r for _, r in pairs]


@pytest.mark.parametrize("sizes", [SIZES, SIZES[:1], SIZES[1:], SIZES[1:2]], ids=len)
def test_log_probabilities_and_gradient_are_those_of_padded_batches(sizes):
    plain, packed = make_model(), make_model()
    assert share_prompts(packed, flex=True) == ""
    found = []
    for lm, lay_out in ((plain, pad_batch), (packed, share_batch)):
        logprobs, _ = PolicyModel(lm)(lay_out(*draw(sizes)).to(torch.device("cuda")))
        logprobs.square().mean().backward()
        found.append((logprobs.detach(), torch.cat([p.grad.flatten() for p in lm.parameters()])))
    (expected, expected_gradient), (logprobs, gradient) = found
    torch.testing.assert_close(logprobs, expected, rtol=1e-3, atol=1e-3)
    assert (gradient - expected_gradient).norm() <= 1e-2 * expected_gradient.norm()


def test_memory_of_the_output_layer_does_not_grow_with_the_number_of_tokens():
    output = torch.nn.Linear(64, 151_936, bias=False, device="cuda")
    head, peaks = LogprobHead(output), []
    for chunks in (2, 8):
        tokens = chunks * LOGIT_ELEMENTS // 151_936
        hidden = torch.randn(tokens, 64, device="cuda", requires_grad=True)
        torch.cuda.reset_peak_memory_stats()
        logprobs, _ = head(hidden, torch.zeros(tokens, dtype=torch.long, device="cuda"), 0.7, False)
        logprobs.sum().backward()
        peaks.append(torch.cuda.max_memory_allocated())
    assert peaks[1] - peaks[0] < LOGIT_ELEMENTS * 4  # one chunk's logits
