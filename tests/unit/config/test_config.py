"""What the configuration accepts, and how it refuses the rest: by name, before anything starts."""

from pathlib import Path

import pytest

from agrl.config import document
from agrl.config.compose import load_config, resumed_config, to_yaml
from agrl.config.schema import LearnerConfig
from agrl.driver.run.description import check_pool, most_prompts
from agrl.driver.services.learners import loss_settings
from agrl.errors import ConfigError
from agrl.marked import read_part
from agrl.relevance.records import Order, RewardMode

ROOT = Path(__file__).parents[3]
SHARED_GPU = [
    *("sync.transport=ipc", "ray.placement=colocated", "learner.gpus_per_rank=1", "rollout.gpus_per_actor=1"),
    *("learner.ranks=1", "rollout.actors=1"),
]
TINY = ["experiment=agrl_tiny"]


def test_overrides_and_groups_reach_the_typed_config():
    config = load_config([*TINY, "trainer.steps=7", "algorithm=grpo", "task.order=respond_then_think"])
    assert config.trainer.steps == 7
    assert config.reward.mode is RewardMode.sparse
    assert config.guidance.enabled is False
    assert config.task.order is Order.respond_then_think


@pytest.mark.parametrize("experiment", sorted(p.stem for p in (ROOT / "conf" / "experiment").glob("*.yaml")))
@pytest.mark.parametrize("algorithm", sorted(p.stem for p in (ROOT / "conf" / "algorithm").glob("*.yaml")))
def test_every_shipped_experiment_and_algorithm_is_valid(experiment, algorithm):
    assert load_config([f"experiment={experiment}", f"algorithm={algorithm}"]).run


LOSSES = sorted(p.stem for p in (ROOT / "conf" / "loss").glob("*.yaml"))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("size", [[], ["size=tiny"]])
def test_every_shipped_loss_is_valid_and_what_its_paper_says(loss, size):
    found = load_config(["model.path=x", f"loss={loss}", *size]).learner
    shape = (found.advantage.value, found.ratio.value, found.aggregation.value)
    expected = {
        "dapo": ("grpo", "token", "token"),
        "grpo": ("grpo", "token", "sequence"),
        "gspo": ("grpo", "sequence", "sequence"),
        "decoupled": ("grpo", "token", "token"),
        "dr_grpo": ("dr_grpo", "token", "constant"),
        "rloo": ("rloo", "token", "constant"),
    }
    assert shape == expected[loss] and sorted(expected) == LOSSES
    weights = found.importance.value, found.importance_cap
    assert weights == ("truncate", 5.0 if loss == "decoupled" else 2.0)


def test_the_default_loss_is_dapo_as_the_schema_has_it():
    assert load_config(["model.path=x"]).learner == LearnerConfig()


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["trainer.stepz=3"], "trainer.stepz"),
        (["+trainer.stepz=3"], "trainer.stepz"),
        (["+rollout.top_p=0.9"], "rollout.top_p': rollouts are sampled from the policy's whole distribution"),
        (["trainer.steps=many"], "trainer.steps"),
        (["trainer.steps=0"], "trainer.steps"),
        (["reward.mode=magic"], "reward.mode"),
        (["learner.schedule=zigzag"], "learner.schedule"),
        (["guidance.tau=1.5"], "guidance.tau"),
        (["learner.kl_coef=-1"], "learner.kl_coef"),
        (["model.dtype=int4"], "model.dtype"),
        (["learner.zero_stage=4"], "learner.zero_stage"),
        (["trainer.rollouts_per_prompt=1"], "trainer.rollouts_per_prompt"),
        (["learner.optimizer_steps_per_batch=5"], "learner.optimizer_steps_per_batch"),
        (["learner.micro_batch_tokens=100"], "learner.micro_batch_tokens"),
        (["guidance.replace=8"], "guidance.replace"),
        (["sft.batch_size=1", "learner.ranks=2"], "sft.batch_size"),
        (["trainer.prompts_per_step=2", "trainer.rollouts_per_prompt=2", "learner.ranks=3"], "learner.ranks"),
        (["learner.clip_low=1.5"], "learner.clip_low"),
        (["learner.entropy_coef=-0.1"], "learner.entropy_coef"),
        (["learner.advantage=median"], "learner.advantage"),
        (["learner.advantage=rloo", "reward.mode=decomposed"], "learner.advantage=rloo"),
        (["learner.kl_in=reward", "reward.mode=decomposed"], "learner.kl_in=reward"),
        (["learner.ratio=sequence"], "learner.aggregation=token"),
        (["learner.kl_estimator=k1", "learner.kl_coef=0.1"], "learner.kl_estimator=k1"),
        (["learner.importance_cap=0"], "learner.importance_cap"),
        (["learner.importance=mask", "learner.importance_cap=1"], "learner.importance_cap"),
        (["trainer.generation_budget=0.5"], "trainer.generation_budget"),
        (["trainer.max_staleness=2"], "trainer.max_staleness=2 must be 0 or 1 in lockstep"),
        (["rollout.min_actors=3", "rollout.actors=2"], "rollout.min_actors=3 must be at least 1 and at most"),
        (["trainer.overlap=free"], "trainer.overlap=free needs trainer.max_staleness=1 or more"),
        (["trainer.overlap=free", "trainer.max_staleness=2", "ray=inline"], "overlap=free contradicts ray=inline"),
        (
            ["trainer.overlap=free", "trainer.max_staleness=2", "rollout.dealing=fixed"],
            "overlap=free contradicts rollout.dealing=fixed",
        ),
        (["trainer.max_staleness=1", "ray.placement=colocated"], "max_staleness=1 contradicts ray.placement=colocated"),
        (["ray=inline", "learner.ranks=2"], "learner.ranks"),
        (["ray=inline", "rollout.actors=2"], "rollout.actors"),
        (["ray=inline", "ray.address=auto"], "ray.address"),
        (["ray=cluster", "ray.address=ray://head:10001"], "ray.address=ray://head:10001 is an address of Ray Client"),
        (["sync.transport=pigeon"], "sync.transport"),
        (["ray=inline", "sync.transport=collective"], "sync.transport=collective contradicts ray=inline"),
        (
            ["sync.transport=collective", "rollout.gpus_per_actor=1"],
            "learner.gpus_per_rank=0, rollout.gpus_per_actor=1",
        ),
        ([*SHARED_GPU, "sync.transport=collective"], "NCCL takes no two"),
        (["sync.transport=ipc"], "ray.placement=colocated, learner.gpus_per_rank=1"),
        (["sync.transport=ipc", "ray.placement=colocated"], "learner.gpus_per_rank=1 and rollout.gpus_per_actor=1"),
        ([*SHARED_GPU, "rollout.actors=2"], "learner.ranks=1 equal to rollout.actors=2"),
        ([*SHARED_GPU, "rollout.gpus_per_actor=2"], "learner.gpus_per_rank=1 equal to rollout.gpus_per_actor=2"),
        ([*SHARED_GPU, "rollout.gpus_per_actor=2", "learner.gpus_per_rank=2"], "learner.gpus_per_rank=2 must be 1"),
        (
            ["ray.placement=colocated", "rollout.tensor_parallel=2"],
            "cannot run with rollout.tensor_parallel=2",
        ),
        (["rollout.tensor_parallel=4", "rollout.gpus_per_actor=2"], "less than rollout.tensor_parallel=4"),
        ([*SHARED_GPU, "ray=inline"], "sync.transport=ipc contradicts ray=inline"),
        (["experiment=nothing"], "experiment/nothing"),
        (["data.evaluation={a/b: x}"], "a/b"),
    ],
)
def test_what_cannot_work_is_refused_by_name(overrides, named):
    with pytest.raises(ConfigError, match=named.replace(".", r"\.")) as refused:
        load_config(overrides if overrides[0].startswith("experiment") else [*TINY, *overrides])
    assert "Traceback" not in str(refused.value)


def test_entries_can_be_added_to_a_mapping():
    config = load_config([*TINY, "+data.evaluation.mine=mine.parquet"])
    assert config.data.evaluation["mine"] == "mine.parquet" and "balanced" in config.data.evaluation


def test_the_kl_stands_in_the_loss_or_in_the_reward():
    with_kl = ["model.path=x", "learner.kl_coef=0.1"]
    assert loss_settings(load_config(with_kl)).kl_coef == 0.1
    assert loss_settings(load_config([*with_kl, "learner.kl_in=reward"])).kl_coef == 0


def test_a_pool_that_a_step_may_exhaust_is_refused():
    config = load_config([*TINY, "trainer.prompts_per_step=10", "trainer.generation_budget=1.1"])
    assert most_prompts(config) == 11
    check_pool(config, 11)
    with pytest.raises(ConfigError, match="10 prompts, fewer than the 11"):
        check_pool(config, 10)


def test_a_pool_that_free_running_may_exhaust_is_refused():
    free = ["trainer.overlap=free", "trainer.max_staleness=2"]
    config = load_config([*TINY, "trainer.prompts_per_step=10", *free])
    check_pool(config, 40)
    with pytest.raises(ConfigError, match=r"39 prompts, fewer than the 40 that may be under way .*max_staleness=2"):
        check_pool(config, 39)


def test_a_missing_model_is_named():
    with pytest.raises(ConfigError, match=r"model\.path is missing"):
        load_config([])


def test_a_saved_config_is_read_back_and_can_be_changed(tmp_path):
    config = load_config([*TINY, f"run={tmp_path}", "learner.lr=3e-5"])
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    assert resumed_config(tmp_path) == config
    assert resumed_config(tmp_path, ["trainer.steps=99"]).trainer.steps == 99
    with pytest.raises(ConfigError, match=r"trainer\.stepz"):
        resumed_config(tmp_path, ["trainer.stepz=99"])


def test_resuming_what_is_not_a_run_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"config\.yaml does not exist"):
        resumed_config(tmp_path)


def test_the_page_lists_every_key_as_it_is():
    written = read_part(ROOT / "docs" / "configuration.md", document.PART)
    assert written == document.key_tables().strip(), "run: python -m agrl.config.document"
    assert "|  |" not in document.key_tables(), "a key of the schema has no comment"
