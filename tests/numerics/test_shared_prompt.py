"""Packed batches against the plain way: every sequence by itself, whole logits."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention.flex_attention import create_block_mask
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    Gemma2Config,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

from agrl.algorithms.batch import TrainSequence, plan_minibatches
from agrl.algorithms.policy_loss import LossSettings
from agrl.errors import ModelError
from agrl.models.block_mask import make_block_mask
from agrl.models.layout import _owners, pack_batch, pad_batch, share_batch
from agrl.models.logprobs import SHARED_PROMPTS, PolicyModel
from agrl.models.packing import choose_packing
from agrl.models.shared_prompt import share_prompts
from agrl.relevance.records import Provenance
from learner.model import Model
from learner.policy import train_policy
from learner.throughput import ModelCost, Work
from tests.unit.learner.test_rank import PlainEngine

SHAPE = {
    "vocab_size": 61,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "intermediate_size": 32,
    "initializer_range": 0.3,
}
# soft caps of the attention alone; the learner refuses those of the logits
GEMMA = {"head_dim": 8, "layer_types": ["full_attention"] * 2, "final_logit_softcapping": None}
ARCHITECTURES = {"qwen3": (Qwen3Config, {"head_dim": 8}), "qwen2": (Qwen2Config, {}), "llama": (LlamaConfig, {})}
EVERYTHING = {"kl_coef": 0.1, "entropy_coef": 0.05, "importance_cap": 1.5}
LOSSES = [
    LossSettings(),
    LossSettings(ratio="sequence", clip_low=3e-4, clip_high=4e-4),
    LossSettings(importance="none"),
    LossSettings(importance="mask", **EVERYTHING),
    LossSettings(ratio="sequence", importance="mask", **EVERYTHING),
]


def make_model(config, **changes):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config(**(SHAPE | changes)), attn_implementation="sdpa")


@pytest.fixture(scope="module", params=ARCHITECTURES)
def models(request):
    """``tied`` -> the same model three times: as it comes, sharing prompts, and sharing with activations recomputed."""
    config, changes = ARCHITECTURES[request.param]
    found = {}
    for tied in (True, False):
        plain, shared, recomputing = (make_model(config, tie_word_embeddings=tied, **changes).train() for _ in range(3))
        assert [share_prompts(lm) for lm in (shared, recomputing)] == ["", ""]
        recomputing.gradient_checkpointing_enable({"use_reentrant": False})
        found[tied] = (plain, shared, recomputing)
    return found


@pytest.fixture(scope="module", params=ARCHITECTURES)
def flex_models(request):
    """The log-probabilities of a padded batch, and a model that shares prompts with FlexAttention."""
    config, changes = ARCHITECTURES[request.param]
    plain, flex = (make_model(config, **changes).train() for _ in range(2))
    with torch.no_grad():
        assert share_prompts(flex, flex=True) == ""
    return lambda *arrays: PolicyModel(plain)(pad_batch(*arrays)), flex


groups = st.lists(
    st.tuples(st.integers(1, 12), st.lists(st.integers(1, 9), min_size=1, max_size=5)), min_size=1, max_size=4
)


def draw_sequences(sizes, seed, shuffle):
    """Of groups (prompt length, response lengths), with everything a loss looks at; in random order if ``shuffle``."""
    generator = np.random.default_rng(seed)
    draw = lambda n: generator.integers(0, SHAPE["vocab_size"], n).astype(np.int32)  # noqa: E731
    found = []
    for prompt_length, lengths in sizes:
        prompt = draw(prompt_length)
        for n in lengths:
            logprobs = generator.normal(-4.0, 0.5, n).astype(np.float32)
            provenance = list(Provenance)[generator.integers(len(Provenance))]
            found.append(TrainSequence(prompt, draw(n), logprobs, float(generator.normal()), provenance))
    if shuffle:
        generator.shuffle(found)
    return found


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@settings(max_examples=20)
@given(sizes=groups, seed=st.integers(0, 99), shuffle=st.booleans())
def test_flex_attention_gives_the_same_log_probabilities(flex_models, sizes, seed, shuffle):
    (plain, flex), sequences = flex_models, draw_sequences(sizes, seed, shuffle)
    arrays = [s.prompt_ids for s in sequences], [s.response_ids for s in sequences]
    with torch.no_grad():  # without: there is none on a CPU
        (found, entropy), (expected, expected_entropy) = PolicyModel(flex)(share_batch(*arrays)), plain(*arrays)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(entropy, expected_entropy, rtol=1e-5, atol=1e-5)


@settings(max_examples=40)
@given(
    sizes=st.lists(
        st.tuples(st.integers(1, 40), st.lists(st.integers(1, 30), min_size=1, max_size=6)), min_size=1, max_size=5
    ),
    block=st.sampled_from([4, 16, 128]),
)
def test_blocks_of_the_mask_are_those_with_something_to_see(sizes, block):
    sequences = draw_sequences(sizes, 0, False)
    shared = share_batch([s.prompt_ids for s in sequences], [s.response_ids for s in sequences]).shared
    group, branch = map(torch.from_numpy, _owners(shared))
    found = make_block_mask(group, branch, block)
    expected = create_block_mask(found.mask_mod, None, None, len(group), len(group), device="cpu", BLOCK_SIZE=block)
    assert torch.equal(found.to_dense(), expected.to_dense())


def literal(lm, sequence, temperature):
    ids = torch.from_numpy(np.concatenate([sequence.prompt_ids, sequence.response_ids]).astype(np.int64))[None]
    logits = lm(input_ids=ids).logits[0, len(sequence.prompt_ids) - 1 : -1] / temperature
    return logits.log_softmax(-1).gather(-1, ids[0, len(sequence.prompt_ids) :, None])[:, 0]


@settings(max_examples=30)
@given(sizes=groups, seed=st.integers(0, 99), shuffle=st.booleans(), tied=st.booleans())
def test_log_probabilities_equal_one_at_a_time_and_padded(models, sizes, seed, shuffle, tied):
    (plain, lm, _), sequences = models[tied], draw_sequences(sizes, seed, shuffle)
    arrays = [s.prompt_ids for s in sequences], [s.response_ids for s in sequences]
    policy = PolicyModel(lm)
    packed, padded = share_batch(*arrays), pad_batch(*arrays)
    with torch.no_grad():
        (found, entropy), (expected, expected_entropy) = policy(packed, 0.7), PolicyModel(plain)(padded, 0.7)
        one_by_one = torch.cat([literal(plain, s, 0.7) for s in sequences])
    torch.testing.assert_close(found, one_by_one, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(entropy, expected_entropy, rtol=1e-5, atol=1e-5)
    prompts = {tuple(s.prompt_ids): len(s.prompt_ids) for s in sequences}
    assert packed.input_ids.numel() == sum(prompts.values()) + sum(len(s.response_ids) for s in sequences)


@settings(max_examples=40)
@given(
    sizes=groups,
    seed=st.integers(0, 99),
    loss=st.sampled_from(LOSSES),
    aggregation=st.sampled_from(["token", "sequence", "constant"]),
    budget=st.integers(1, 120),
    tied=st.booleans(),
    recompute=st.booleans(),
)
def test_loss_and_gradient_equal_one_sequence_at_a_time(
    models, sizes, seed, loss, aggregation, budget, tied, recompute
):
    sequences = draw_sequences(sizes, seed, shuffle=False)
    results = []
    plain, *sharing = models[tied]
    for lm, packing, tokens in ((plain, "padded", 1), (sharing[recompute], "shared", budget)):
        plan = plan_minibatches(sequences, 1, 1, tokens, aggregation, 9, packing)
        reference = PolicyModel(models[not tied][packing == "shared"])
        model = Model(PlainEngine(lm), Work(ModelCost.of(lm)), reference, packing=packing)
        total = train_policy(model, sequences, plan, loss, 0.9, 1e-3, 0, None).total["loss"]
        results.append((total, model.engine.steps[0]))
    (expected_loss, expected), (found_loss, found) = results
    assert found_loss == pytest.approx(expected_loss, rel=1e-5, abs=1e-6)
    assert (found - expected).norm() <= 1e-5 * expected.norm() + 1e-7


class Training(PlainEngine):
    """With an optimizer that does step."""

    def __init__(self, lm) -> None:
        super().__init__(lm)
        self.optimizer = torch.optim.AdamW(self.policy.parameters(), lr=1e-3)

    def step(self, lr):
        self.optimizer.step()
        return super().step(lr)


def test_training_curves_coincide():
    """Forty updates on fresh batches, padded, packed and with shared prompts, each with an Adam state of its own."""
    config, changes = ARCHITECTURES["qwen3"]
    curves = []
    for packing in ("padded", "packed", "shared"):
        lm = make_model(config, **changes).train()
        assert choose_packing(lm, packing) == (packing, "")
        model, losses = Model(Training(lm), Work(ModelCost.of(lm)), packing=packing), []
        for step in range(40):
            sequences = draw_sequences([(9, [4, 7, 5]), (3, [6, 2]), (12, [8])], step, shuffle=False)
            plan = plan_minibatches(sequences, 2, 1, 60, "token", 9, packing)
            losses.append(train_policy(model, sequences, plan, LossSettings(), 1.0, 1e-3, 0, None).total["loss"])
        curves.append(losses)
    padded, *others = map(np.array, curves)
    assert np.ptp(padded) > 0.1, "there is something to compare"
    for curve in others:
        np.testing.assert_allclose(curve, padded, rtol=1e-3, atol=1e-4)


def test_responses_do_not_see_one_another(models):
    lm, generator = models[True][1], np.random.default_rng(0)
    draw = lambda n: generator.integers(0, SHAPE["vocab_size"], n)  # noqa: E731
    prompt, one, other = draw(6), draw(5), draw(4)
    first, second = (PolicyModel(lm)(share_batch([prompt] * 2, [r, other]))[0][5:] for r in (one, draw(5)))
    torch.testing.assert_close(first, second)
    assert not torch.allclose(first, PolicyModel(lm)(share_batch([draw(6)] * 2, [one, other]))[0][5:])


@pytest.mark.parametrize(
    ("config", "changes", "reason"),
    [
        (MistralConfig, {"sliding_window": 4}, "sliding_window"),
        (Qwen2Config, {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}, "sliding_attention"),
        (Gemma2Config, GEMMA, "softcap"),
    ],
    ids=["mistral", "qwen2", "gemma2"],
)
def test_a_model_that_attends_otherwise_has_its_sequences_packed_whole(config, changes, reason):
    lm, plain = (make_model(config, **changes) for _ in range(2))
    packing, why = choose_packing(lm, "shared")
    assert packing == "packed" and "cannot share prompts" in why and reason in why
    assert lm.config._attn_implementation == "sdpa"
    sequences = draw_sequences([(9, [4, 7]), (1, [1]), (3, [12, 1])], 0, shuffle=True)  # longer than the window
    arrays = [s.prompt_ids for s in sequences], [s.response_ids for s in sequences]
    batch, policy = pack_batch(*arrays), PolicyModel(lm)
    assert batch.input_ids.numel() == sum(s.length for s in sequences)
    found, expected = policy(batch)[0], torch.cat([literal(plain, s, 1.0) for s in sequences])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    gradients = [
        torch.autograd.grad(x.square().sum(), list(m.parameters())) for x, m in ((found, lm), (expected, plain))
    ]
    for one, other in zip(*gradients, strict=True):
        assert (one - other).norm() <= 1e-5 * other.norm() + 1e-7
    with pytest.raises(ModelError, match="share_prompts"):
        policy(share_batch(*arrays))


def test_a_model_that_shares_prompts_refuses_a_row_without(models):
    with pytest.raises(ModelError, match="share_prompts"):
        PolicyModel(models[True][1])(pack_batch([np.array([1])], [np.array([2])]))


def test_an_unknown_difference_is_found_by_trying(monkeypatch):
    lm = make_model(LlamaConfig)
    decoder = lm.get_decoder()
    plain = type(decoder.rotary_emb).forward
    # positions by the column, whatever the model is told
    by_column = lambda self, x, position_ids: plain(self, x, torch.arange(x.shape[1])[None])  # noqa: E731
    monkeypatch.setattr(type(decoder.rotary_emb), "forward", by_column)
    packing, why = choose_packing(lm, "shared")
    assert packing == "packed" and "log-probabilities change" in why  # positions are relative in a whole sequence
    assert lm.config._attn_implementation == "sdpa" != SHARED_PROMPTS


def test_a_model_that_does_not_look_at_positions_is_padded():
    torch.manual_seed(0)
    lm = AutoModelForCausalLM.from_config(BloomConfig(**SHAPE | {"n_layer": 2, "n_head": 4}))
    for wanted in ("shared", "packed"):
        packing, why = choose_packing(lm, wanted)
        assert packing == "padded" and "cannot pack sequences" in why, why
    assert choose_packing(lm, "padded") == ("padded", "")
