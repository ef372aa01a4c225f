"""Response log-probabilities against the plain way: whole logits, one sequence at a time."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma2Config

from agrl.errors import ModelError
from agrl.models import logprobs as module
from agrl.models.build import TinyShape, load_model, make_tiny_model
from agrl.models.layout import pad_batch
from agrl.models.logprobs import PolicyModel
from agrl.models.probe import check_output_layer

TEXTS = [f"search: red grinder {i}\ntitle: crimson mill {i}\n" for i in range(50)]


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def model_path(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    shape = TinyShape(
        vocab_size=300, hidden_size=32, layers=2, heads=4, kv_heads=2, intermediate_size=64, tied=request.param
    )
    make_tiny_model(path, TEXTS, shape, seed=1)
    return str(path)


def some_sequences(seed=0, n=6):
    generator = np.random.default_rng(seed)
    draw = lambda low, high: generator.integers(2, 290, generator.integers(low, high)).astype(np.int32)  # noqa: E731
    return [draw(1, 12) for _ in range(n)], [draw(1, 9) for _ in range(n)]


def literal(lm, prompt, response, temperature):
    ids = torch.from_numpy(np.concatenate([prompt, response]).astype(np.int64))[None]
    logits = lm(input_ids=ids).logits[0, len(prompt) - 1 : -1].float() / temperature
    return logits.log_softmax(-1).gather(-1, ids[0, len(prompt) :, None])[:, 0]


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_padded_logprobs_equal_one_at_a_time(model_path, temperature):
    lm = load_model(model_path, "float32").eval()
    prompts, responses = some_sequences()
    found, entropy = PolicyModel(lm)(pad_batch(prompts, responses), temperature)
    expected = torch.cat([literal(lm, p, r, temperature) for p, r in zip(prompts, responses, strict=True)])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert (entropy > 0).all() and len(entropy) == len(found)


def test_chunks_change_neither_values_nor_gradients(model_path, monkeypatch):
    prompts, responses = some_sequences(1)
    results = []
    for limit in (1 << 25, 700):
        monkeypatch.setattr(module, "LOGIT_ELEMENTS", limit)
        lm = load_model(model_path, "float32").train()
        found, _ = PolicyModel(lm)(pad_batch(prompts, responses))
        found.square().sum().backward()
        results.append((found.detach(), [p.grad for p in lm.parameters()]))
    (whole, whole_gradients), (chunked, chunked_gradients) = results
    torch.testing.assert_close(chunked, whole)
    for a, b in zip(chunked_gradients, whole_gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=2e-5)  # float32 sums in another order


@pytest.mark.parametrize("limit", [1 << 25, 700], ids=["whole", "chunked"])
def test_the_entropy_carries_gradient_only_when_asked(model_path, monkeypatch, limit):
    monkeypatch.setattr(module, "LOGIT_ELEMENTS", limit)
    lm = load_model(model_path, "float32").train()
    prompts, responses = some_sequences(2)
    batch = pad_batch(prompts, responses)
    detached = PolicyModel(lm)(batch)[1]
    assert not detached.requires_grad
    found = PolicyModel(lm)(batch, 1.0, True)[1]
    hidden = lm(input_ids=batch.input_ids).logits.flatten(0, 1)[batch.predictors].float()
    expected = torch.distributions.Categorical(logits=hidden).entropy()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found, detached)
    parameters = list(lm.parameters())
    for a, b in zip(*(torch.autograd.grad(x.sum(), parameters) for x in (found, expected)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=2e-5)


def test_a_model_that_changes_its_logits_is_refused(model_path):
    lm = load_model(model_path, "float32")
    check_output_layer(lm)
    capped = Gemma2Config(
        vocab_size=300, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, head_dim=16,
        intermediate_size=32, final_logit_softcapping=0.5, initializer_range=0.5,
    )  # fmt: skip
    with pytest.raises(ModelError, match="Gemma2ForCausalLM changes its logits"):
        check_output_layer(AutoModelForCausalLM.from_config(capped))
