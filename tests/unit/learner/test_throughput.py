"""Operations counted from the layout against what torch counts, and tokens with and without sharing."""

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, Qwen3Config

from agrl.algorithms.batch import TrainSequence
from agrl.models.group_attention import FLASH, FLASH_BACKWARD
from agrl.models.layout import pad_batch, share_batch
from agrl.models.logprobs import PolicyModel
from agrl.models.shared_prompt import share_prompts
from learner.throughput import ModelCost, Work, peak_operations, throughput_metrics

PROMPT, RESPONSES = 40, (8, 8, 8)


@pytest.fixture(scope="module")
def lm():
    config = Qwen3Config(
        vocab_size=500,
        hidden_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        intermediate_size=128,
        tie_word_embeddings=True,
    )
    lm = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").train()
    assert share_prompts(lm) == ""
    return lm


def group():
    prompt = np.arange(PROMPT)
    return [TrainSequence(prompt, np.arange(n), np.zeros(n, np.float32)) for n in RESPONSES]


def lay_out(how, sequences):
    return how([s.prompt_ids for s in sequences], [s.response_ids for s in sequences])


def flash(query, key, *args, **kwargs):
    """Operations of the CPU's flash kernel, which torch does not count: two products of all queries and keys."""
    batch, heads, queries, size = query
    return 4 * batch * heads * queries * key[2] * size


def flash_backward(gradient, query, key, *args, **kwargs):
    """Twice as many; the fifth product is the forward pass's, computed again."""
    return 2 * flash(query, key)


def counted(lm, batch, backward):
    """By torch: of matrix products, masked keys included."""
    policy = PolicyModel(lm)
    counter = FlopCounterMode(display=False, custom_mapping={FLASH: flash, FLASH_BACKWARD: flash_backward})
    with counter, sdpa_kernel(SDPBackend.MATH), torch.set_grad_enabled(backward):
        logprobs, _ = policy(batch)
        if backward:
            logprobs.sum().backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("how", [pad_batch, share_batch])
def test_operations_are_those_of_the_matrix_products(lm, how, backward):
    batch, longest = lay_out(how, group()), PROMPT + max(RESPONSES)
    tokens, keys = 3 * longest, 3 * longest**2  # of all shapes, masked or not
    if how is share_batch:
        tokens, keys = PROMPT + sum(RESPONSES), PROMPT**2 + sum(RESPONSES) * longest
    found = ModelCost.of(lm).operations(tokens, keys, sum(RESPONSES), backward)
    assert found == counted(lm, batch, backward)


@pytest.mark.parametrize("how", [pad_batch, share_batch])
def test_only_keys_that_are_seen_count(lm, how):
    cost, sequences = ModelCost.of(lm), group()
    work = Work(cost)
    work.count(lay_out(how, sequences), sequences, False)
    prompts = 1 if how is share_batch else 3
    seen = prompts * sum(range(1, PROMPT + 1)) + sum(PROMPT + i for n in RESPONSES for i in range(1, n + 1))
    assert work.operations == cost.operations(prompts * PROMPT + sum(RESPONSES), seen, sum(RESPONSES), False)


def test_frozen_weights_cost_no_gradient_of_their_own(lm):
    batch, sequences, work = lay_out(share_batch, group()), group(), Work(ModelCost.of(lm))
    work.count(batch, sequences, True)
    whole, tokens = work.sums()["work_operations"], batch.input_ids.numel()
    for parameter in lm.parameters():
        parameter.requires_grad_(False)
    try:
        cost = ModelCost.of(lm)
    finally:
        for parameter in lm.parameters():
            parameter.requires_grad_(True)
    saved = 2 * cost.body * tokens + 2 * cost.head * sum(RESPONSES)
    assert whole - cost.operations(tokens, int(batch.positions.sum()) + tokens, sum(RESPONSES), True) == saved


def test_tokens_with_sharing_without_and_with_padding(lm):
    sequences, work = group(), Work(ModelCost.of(lm))
    work.count(lay_out(share_batch, sequences), sequences, False)
    assert work.computed == PROMPT + sum(RESPONSES) and work.useful == 3 * PROMPT + sum(RESPONSES)
    work.sums()
    sequences[0].response_ids = np.arange(20)
    work.count(lay_out(pad_batch, sequences), sequences, False)
    assert work.computed == 3 * (PROMPT + 20) and work.useful == 3 * PROMPT + 36


def test_utilisation_is_of_all_ranks_peaks_over_the_slowest_ones_time():
    sums = {"work_computed": 100.0, "work_useful": 300.0, "work_operations": 4e9, "work_peak": 2e9 + 2e9}
    assert throughput_metrics(sums, 2.0) == {
        "learner/seconds": 2.0,
        "learner/computed_tokens_per_s": 50.0,
        "learner/useful_tokens_per_s": 150.0,
        "learner/flop_utilisation": 0.5,
    }


def test_the_peak_is_measured_once():
    assert peak_operations("float32", "cpu") == peak_operations("float32", "cpu") > 1e8
