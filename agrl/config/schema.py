"""The typed configuration: every key there is, its type, its default and its meaning.

YAML files under ``conf/`` and ``key=value`` arguments are merged into these classes, so an unknown key or a wrong type is
refused by name. Combinations that are well typed but impossible are refused by ``agrl.config.check``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from omegaconf import MISSING

from agrl.relevance.records import Order


class RewardMode(str, Enum):
    rules = "rules"  # weighted, gated sum of the rule book's components (RRS)
    decomposed = "decomposed"  # every component normalised inside its group, then summed (GDPO)
    sparse = "sparse"  # tier only: the standard GRPO baseline


class Sampling(str, Enum):
    difficulty = "difficulty"
    uniform = "uniform"


class GuidanceSource(str, Enum):
    reference = "reference"  # the ground-truth trajectory
    hinted = "hinted"  # the policy's own answer to the prompt with a hint in it


class Semantics(str, Enum):
    expert = "expert"
    transfer = "transfer"


class KL(str, Enum):
    k1 = "k1"
    k2 = "k2"
    k3 = "k3"


class RayMode(str, Enum):
    local = "local"  # start Ray on this machine
    cluster = "cluster"  # join the cluster at ray.address
    inline = "inline"  # no Ray: every service in the driver's process, for a debugger


@dataclass
class TaskConfig:
    rulebook: str = "relevance"  # a name under conf/rulebooks, or a path to a YAML file
    order: Order = Order.think_then_respond
    prompt_style: str = "full"  # a prompt of the rule book: "full" states the rules, "brief" only the input
    max_prompt_tokens: int = 1024
    max_response_tokens: int = 256


@dataclass
class DataConfig:
    seed: str | None = None  # SFT examples: rows with a reference judgement
    train: str | None = None  # RL pool: rows with gold tier, verdicts where known
    evaluation: dict[str, str] = field(default_factory=dict)  # set name -> file
    max_evaluation: int = 0  # at most this many rows a set, 0 for all


@dataclass
class ModelConfig:
    path: str = MISSING  # folder or hub name of a Hugging Face causal LM
    dtype: str = "bfloat16"  # float32 on the CPU
    gradient_checkpointing: bool = False


@dataclass
class RolloutConfig:
    actors: int = 1
    temperature: float = 1.0
    gpu_memory_utilization: float = 0.85
    kv_cache_gib: float = 0.5  # CPU engines only
    max_concurrent: int = 256  # sequences decoded together by one engine
    tensor_parallel: int = 1
    gpus_per_actor: float = 0.0
    threads: int = 0  # CPU threads an engine may use, 0 for all
    restarts: int = 3  # an actor that dies more often than this ends the run
    timeout_s: float = 1800.0


@dataclass
class RewardConfig:
    mode: RewardMode = RewardMode.rules
    actors: int = 1
    timeout_s: float = 60.0  # a score that takes longer is invalid, by name
    restarts: int = 3


@dataclass
class ReplayConfig:
    sampling: Sampling = Sampling.difficulty
    floor: float = 0.1  # least relative weight of any prompt, so that nothing starves
    ema: float = 0.5  # weight of the newest outcome in a prompt's moving accuracy


@dataclass
class GuidanceConfig:
    enabled: bool = True
    source: GuidanceSource = GuidanceSource.hinted
    semantics: Semantics = Semantics.transfer
    tau: float = 0.125  # a group with at most this share of correct tiers is low-accuracy
    warmup_steps: int = 2  # no guidance before this step
    max_share: float = 0.25  # at most this share of a step's rollouts is guided
    replace: int = 2  # at most this many of a group's worst rollouts are replaced
    hinted_rollouts: int = 4  # fresh rollouts at each hint level
    first_hint_level: int = 1
    mastered: float = 0.5  # moving accuracy from which a prompt gets no more guidance
    gamma: float = 0.1  # policy shaping f(p) = p / (p + gamma) of expert tokens


@dataclass
class LearnerConfig:
    ranks: int = 1
    zero_stage: int = 0
    gpus_per_rank: float = 0.0
    threads: int = 0
    lr: float = 1e-6
    warmup_steps: int = 0
    schedule: str = "constant"  # or "cosine"
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    optimizer_steps_per_batch: int = 1
    micro_batch_tokens: int = 16384  # padded tokens of one forward-backward pass
    clip_low: float = 0.2
    clip_high: float = 0.28
    normalise_std: bool = True  # divide advantages by the group's standard deviation (Dr.GRPO: false)
    kl_coef: float = 0.0
    kl_estimator: KL = KL.k3
    importance_cap: float = 2.0  # C of the truncated importance correction, 0 for none
    timeout_s: float = 1800.0


@dataclass
class SyncConfig:
    """The check after each weight broadcast: rollout log-probabilities against the learner's, same tokens and version."""

    check: bool = True
    max_mean_gap: float = 1e-3  # nats per token, averaged over an actor's tokens; about 0.05 suits bfloat16


@dataclass
class TrainerConfig:
    steps: int = 100
    prompts_per_step: int = 32
    rollouts_per_prompt: int = 8
    evaluate_every: int = 0  # steps; 0: only before the first and after the last
    checkpoint_every: int = 0  # steps; 0: only after the last
    keep_checkpoints: int = 2
    seed: int = 0
    samples_per_step: int = 4  # trajectories a step written to samples.jsonl


@dataclass
class SftConfig:
    steps: int = 800
    batch_size: int = 64  # examples an optimizer step
    lr: float = 2e-3
    warmup_steps: int = 20
    schedule: str = "cosine"


@dataclass
class RayConfig:
    mode: RayMode = RayMode.local
    address: str | None = None  # "auto" or "ray://host:10001" to join a cluster
    cpus: int = 0  # CPUs that a local Ray offers, 0 for enough to place every actor
    namespace: str = "agrl"


@dataclass
class Config:
    run: str = "runs/agrl"  # the run folder
    task: TaskConfig = field(default_factory=TaskConfig)
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    reward: RewardConfig = field(default_factory=RewardConfig)
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    guidance: GuidanceConfig = field(default_factory=GuidanceConfig)
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    sync: SyncConfig = field(default_factory=SyncConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    sft: SftConfig = field(default_factory=SftConfig)
    ray: RayConfig = field(default_factory=RayConfig)
