"""A learner rank on an engine of a few lines: the same gradient however the batch is split, whatever the loss."""

import numpy as np
import pytest
import torch

from agrl.algorithms.batch import TrainSequence, plan_minibatches
from agrl.algorithms.policy_loss import LossSettings
from agrl.errors import LearnerError
from agrl.models.build import TinyShape, load_model, make_tiny_model
from agrl.models.layout import pad_batch
from agrl.models.logprobs import PolicyModel
from agrl.models.shared_prompt import share_prompts
from agrl.relevance.records import Provenance
from learner.model import Model
from learner.rank import LearnerRank, RankSettings
from learner.throughput import ModelCost, Work

SHAPE = TinyShape(vocab_size=300, hidden_size=32, layers=2, heads=4, kv_heads=2, intermediate_size=64)
EVERYTHING = {"kl_coef": 0.1, "entropy_coef": 0.05, "importance": "mask", "importance_cap": 1.5}
LOSSES = {
    "dapo": (LossSettings(), "token"),
    "gspo": (LossSettings(ratio="sequence", clip_low=3e-4, clip_high=4e-4), "sequence"),
    "dr_grpo": (LossSettings(importance="none"), "constant"),
    "everything": (LossSettings(ratio="sequence", **EVERYTHING), "sequence"),
}


class PlainEngine:
    """Gradients of one rank, kept at every step; the weights stay as they are."""

    device = torch.device("cpu")

    def __init__(self, lm) -> None:
        self.policy, self.steps = PolicyModel(lm), []

    def logprobs(self, batch, temperature, entropy_gradient=False):
        return self.policy(batch, temperature, entropy_gradient)

    def backward(self, loss):
        loss.backward()

    def step(self, lr):
        self.steps.append(torch.cat([p.grad.flatten().clone() for p in self.policy.parameters()]))
        self.policy.zero_grad()
        return self.steps[-1].norm().item()


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    paths = [tmp_path_factory.mktemp("model") for _ in range(2)]
    for seed, path in enumerate(paths):
        make_tiny_model(path, [f"search: red grinder {i}\n" for i in range(50)], SHAPE, seed=seed)
    return [str(path) for path in paths]


@pytest.fixture(scope="module")
def unprepared(paths):
    return [load_model(path, "float32") for path in paths]


@pytest.fixture(scope="module")
def models(paths):
    loaded = [load_model(path, "float32") for path in paths]
    assert [share_prompts(lm) for lm in loaded] == ["", ""]
    return loaded


def rank(models, number=0, world=1, packing="shared") -> LearnerRank:
    found = LearnerRank(RankSettings("", "float32"), number, world)
    work = Work(ModelCost.of(models[0]))
    found.model = Model(PlainEngine(models[0]), work, PolicyModel(models[1]), number, world, packing)
    return found


def sequences(n=9):
    """Three groups with a prompt each; in the last one a response has another prompt."""
    generator = np.random.default_rng(0)
    draw = lambda low, high: generator.integers(2, 290, generator.integers(low, high)).astype(np.int32)  # noqa: E731
    found, prompts = [], [draw(1, 30) for _ in range(4)]
    for i in range(n):
        response, provenance = draw(1, 12), list(Provenance)[1 + i % 3]
        logprobs = generator.normal(-5.7, 0.3, len(response)).astype(np.float32)
        prompt = prompts[3 if i == 7 else i // 3 % 3]
        found.append(TrainSequence(prompt, response, logprobs, float(generator.normal()), provenance))
    return found


def gradients(models, ranks, budget, loss, aggregation, packing):
    """Of every optimizer step, averaged over the ranks as DeepSpeed does; and the loss summed over them."""
    plan = plan_minibatches(sequences(), 2, ranks, budget, aggregation, 12, packing)
    workers = [rank(models, i, ranks, packing) for i in range(ranks)]
    sums = [w.train_policy(sequences(), plan, loss, 1.0, 1e-3, 0, None) for w in workers]
    steps = torch.stack([torch.stack(w.model.engine.steps) for w in workers]).mean(0)
    return steps, sum(s.total["loss"] for s in sums)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(
    ("ranks", "budget", "packing"),
    [
        (1, 60, "shared"),
        (1, 60, "packed"),
        (1, 60, "padded"),
        (2, 10_000, "shared"),
        (3, 90, "shared"),
        (3, 90, "packed"),
        (3, 90, "padded"),
        (12, 10_000, "shared"),
    ],
)
def test_an_update_does_not_depend_on_how_the_batch_is_split(models, unprepared, name, ranks, budget, packing):
    expected, expected_loss = gradients(models, 1, 1, *LOSSES[name], "padded")  # one response at a time
    found, loss = gradients(unprepared if packing == "packed" else models, ranks, budget, *LOSSES[name], packing)
    assert expected.abs().max() > 1e-4
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    assert (found - expected).norm() < 1e-5 * expected.norm()
    assert loss == pytest.approx(expected_loss, rel=1e-5, abs=1e-7)


def test_masked_tokens_and_kl_are_counted(models):
    loss, aggregation = LOSSES["everything"]
    plan = plan_minibatches(sequences(), 2, 1, 100, aggregation)
    total = rank(models).train_policy(sequences(), plan, loss, 1.0, 1e-3, 0, None).total
    on_policy = sum(len(s.response_ids) for s in sequences() if s.provenance == Provenance.ON_POLICY)
    assert 0 < total["masked"] <= total["on_policy"] == on_policy
    assert total["kl"] > 0 and total["entropy"] > 0


def test_supervised_loss_is_the_mean_over_tokens(models):
    batch = sequences()
    sums = rank(models).train_sft(batch, plan_minibatches(batch, 1, 1, 50), 1e-3)
    padded = pad_batch([s.prompt_ids for s in batch], [s.response_ids for s in batch])
    assert sums.total["loss"] == pytest.approx(-PolicyModel(models[0])(padded)[0].mean().item(), rel=1e-5)


@pytest.mark.parametrize("ranks", [1, 2, 12])
def test_kl_to_the_reference_is_summed_over_a_response(models, ranks):
    batch = sequences()
    plan = plan_minibatches(batch, 1, ranks, 100)
    found = [rank(models, i, ranks).kl_to_reference(batch, plan, 0.7, "k1") for i in range(ranks)]
    merged = {i: value for part in found for i, value in part.items()}
    assert sorted(merged) == list(range(len(batch)))
    for i, s in enumerate(batch):
        padded = pad_batch([s.prompt_ids], [s.response_ids])
        policy, reference = (PolicyModel(m)(padded, 0.7)[0] for m in models)
        assert merged[i] == pytest.approx((policy - reference).sum().item(), rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("packing", ["shared", "packed", "padded"])
def test_a_rank_keeps_the_model_that_it_starts_from_as_its_reference(paths, monkeypatch, packing):
    monkeypatch.setattr("learner.rank.TrainingEngine", lambda lm, *_: PlainEngine(lm))
    started = LearnerRank(RankSettings(paths[0], "float32", reference=True, packing=packing), 0, 1)
    assert started.start(started.settings) == (packing, "")
    batch, (policy, start) = sequences(), (load_model(path, "float32") for path in paths[::-1])
    plan = plan_minibatches(batch, 1, 1, 100, packing=packing)
    assert list(started.kl_to_reference(batch, plan, 1.0, "k1").values()) == pytest.approx([0.0] * len(batch), abs=1e-6)
    started.model.engine.policy.lm.load_state_dict(policy.state_dict())  # as if trained
    found = started.kl_to_reference(batch, plan, 1.0, "k1")
    for i, s in enumerate(batch):
        padded = pad_batch([s.prompt_ids], [s.response_ids])
        expected = (PolicyModel(policy)(padded)[0] - PolicyModel(start)(padded)[0]).sum().item()
        assert found[i] == pytest.approx(expected, rel=1e-3, abs=1e-4) and abs(expected) > 1e-3


def test_a_rank_in_which_an_update_broke_off_is_nothing_to_go_on_with(models):
    with pytest.raises(LearnerError, match="not set up"):
        LearnerRank(RankSettings("", "float32"), 0, 1).hand_over()
    one = rank(models)
    one.hand_over()

    def broken(*batch):
        raise ConnectionError("the connection to learner-1 broke")

    with pytest.raises(ConnectionError):
        one._measured(broken)
    with pytest.raises(LearnerError, match="an update broke off"):
        one.hand_over()
