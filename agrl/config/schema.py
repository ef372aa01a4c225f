"""The typed configuration: every key there is, its type, its default and its meaning.

YAML files under ``conf/`` and ``key=value`` arguments are merged into these classes, so an unknown key or a wrong type
is refused by name. Combinations that are well typed but impossible are refused by ``agrl.config.check``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from omegaconf import MISSING

from agrl.relevance.grounding import Gold
from agrl.relevance.records import Order, RewardMode


class Sampling(str, Enum):
    difficulty = "difficulty"
    uniform = "uniform"


class GuidanceSource(str, Enum):
    reference = "reference"  # the ground-truth trajectory
    hinted = "hinted"  # the policy's own answer to the prompt with a hint in it


class Semantics(str, Enum):
    expert = "expert"
    transfer = "transfer"
    conditional = "conditional"


class Accept(str, Enum):
    sound = "sound"  # right tier, right verdicts, consistent, following from the answer's own readings
    correct = "correct"  # right tier, for whatever reason


class Advantage(str, Enum):
    grpo = "grpo"  # reward minus the group's mean, over its standard deviation
    dr_grpo = "dr_grpo"  # reward minus the group's mean
    rloo = "rloo"  # reward minus the mean of the others


class Ratio(str, Enum):
    token = "token"
    sequence = "sequence"  # GSPO


class Aggregation(str, Enum):
    token = "token"  # mean over the minibatch's tokens
    sequence = "sequence"  # mean over a response's tokens, then over responses
    constant = "constant"  # sum over tokens, by responses times task.max_response_tokens


class Packing(str, Enum):
    shared = "shared"  # one row, a prompt once for all its rollouts
    packed = "packed"  # one row of whole sequences
    padded = "padded"  # a row for each sequence


class Importance(str, Enum):
    truncate = "truncate"
    mask = "mask"
    none = "none"


class KLIn(str, Enum):
    loss = "loss"
    reward = "reward"


class KL(str, Enum):
    k1 = "k1"
    k2 = "k2"
    k3 = "k3"


class Transport(str, Enum):
    object_store = "object_store"  # through Ray's object store: anywhere
    collective = "collective"  # a broadcast by Gloo or NCCL from learner rank 0 to all engines
    ipc = "ipc"  # within a GPU that a learner rank and an engine share


class Dealing(str, Enum):
    auto = "auto"  # free where there are several engines
    free = "free"  # requests go to the engine that is free
    fixed = "fixed"  # request i to engine i modulo their number, as in every other run


class Overlap(str, Enum):
    lockstep = "lockstep"  # the next batch beside the learner's work on this one; repeats bit for bit
    free = "free"  # engines and learner each go on as they are ready


class Unfinished(str, Enum):
    recompute = "recompute"  # by the new weights
    keep = "keep"  # as the older weights computed them


class RayMode(str, Enum):
    local = "local"  # start Ray on this machine
    cluster = "cluster"  # join the cluster at ray.address
    inline = "inline"  # no Ray: every service in the driver's process, for a debugger


class TrackerName(str, Enum):  # each is also the name of its package, and of an extra of this project
    tensorboard = "tensorboard"
    mlflow = "mlflow"
    wandb = "wandb"
    trackio = "trackio"


class Placement(str, Enum):
    separate = "separate"  # learner ranks and engines have GPUs of their own
    colocated = "colocated"  # learner rank i and engine i share theirs, in turns


@dataclass
class TaskConfig:
    rulebook: str = "relevance"  # a name under conf/rulebooks, or a path to a YAML file
    order: Order = Order.think_then_respond  # respond_then_think: the tier first; verdicts_only, tier_only: no reading
    prompt_style: str = "full"  # a prompt of the rule book: "full" states the rules, "brief" only the input
    max_prompt_tokens: int = 1024  # longer prompts are left out of training, and refused in evaluation
    max_response_tokens: int = 256  # a longer response is cut off, and unparsable


@dataclass
class DataConfig:
    seed: str | None = None  # SFT examples: rows with a reference judgement
    train: str | None = None  # RL pool: rows with gold tier, verdicts where known
    unlabelled: str | None = None  # pairs that nobody has judged, for `agrl ground`
    evaluation: dict[str, str] = field(default_factory=dict)  # set name -> file
    max_evaluation: int = 0  # at most this many rows a set, drawn at random, 0 for all
    evaluation_seed: int = 0  # of that draw: not trainer.seed, so that runs are judged on the same rows


@dataclass
class ModelConfig:
    path: str = MISSING  # folder or hub name of a Hugging Face causal LM
    dtype: str = "bfloat16"  # bfloat16, float16 or float32 (for the CPU)
    lora_rank: int = 0  # train low-rank updates (LoRA) of this rank, beside frozen weights; 0 trains all weights
    lora_alpha: float = 32.0  # updates are scaled by lora_alpha / lora_rank
    gradient_checkpointing: bool = False  # recompute activations: less memory, a third more time
    chat_template_args: dict[str, Any] = field(default_factory=dict)  # given to the model's chat template, by name


@dataclass
class RolloutConfig:
    actors: int = 1  # vLLM engines; 0: one a CPU (at most 4), for a small model on this machine
    temperature: float = 1.0  # of training rollouts; log-probabilities are of the tempered distribution
    gpu_memory_utilization: float = 0.85  # share of a GPU's memory that an engine may use
    kv_cache_gib: float = 0.5  # CPU engines only
    max_concurrent: int = 256  # sequences decoded together by one engine
    tensor_parallel: int = 1  # GPUs that share one engine's model
    gpus_per_actor: float = 0.0  # GPUs that Ray reserves for each engine
    threads: int = 0  # CPU threads an engine may use, 0 for all
    unfinished: Unfinished = Unfinished.recompute  # overlap=free: keys and values of what new weights find half sampled
    dealing: Dealing = Dealing.auto  # of requests; free: to who is free (auto: with several engines); fixed: by number
    restarts: int = 3  # an actor that dies more often than this ends the run
    min_actors: int = 1  # with fewer engines, when hosts are lost, the run ends; they come back when hosts do
    timeout_s: float = 1800.0  # seconds without an answer after which an engine counts as hung


@dataclass
class RewardConfig:
    mode: RewardMode = RewardMode.rules  # rules (RRS), decomposed (GDPO) or sparse (tier only)
    actors: int = 1  # scoring processes
    timeout_s: float = 60.0  # a score that takes longer is invalid, by name
    restarts: int = 3  # a scorer that dies more often than this ends the run


@dataclass
class ReplayConfig:
    sampling: Sampling = Sampling.difficulty  # or uniform: every prompt once an epoch
    floor: float = 0.1  # least relative weight of any prompt, so that nothing starves
    ema: float = 0.5  # weight of the newest outcome in a prompt's moving accuracy
    restarts: int = 3  # times that the replay actor may die and be brought back, with all that it knew


@dataclass
class GuidanceConfig:
    enabled: bool = True  # adaptive guided replay
    source: GuidanceSource = GuidanceSource.hinted  # or reference: the ground-truth trajectory
    semantics: Semantics = Semantics.transfer  # of guided tokens: transfer (HINT), expert (LUFFY), conditional (GHPO)
    accept: Accept = Accept.sound  # which answers may guide; correct: the right tier is enough, for comparison
    recall: bool = False  # first the policy's own earlier sound answers to the prompt, where there are any
    tau: float = 0.125  # a group with at most this share of correct tiers is low-accuracy
    warmup_steps: int = 2  # no guidance before this step
    max_share: float = 0.25  # at most this share of a step's rollouts is guided
    replace: int = 2  # at most this many of a group's worst rollouts are replaced
    hinted_rollouts: int = 4  # fresh rollouts at each hint level
    temperature: float = 0.6  # of hinted rollouts: low, so that an answer is what the policy believes, not a lucky draw
    first_hint_level: int = 1  # where the ladder of hints starts; 1 gives away least
    mastered: float = 0.5  # moving accuracy from which a prompt gets no more guidance
    gamma: float = 0.1  # policy shaping f(p) = p / (p + gamma) of expert tokens


@dataclass
class LearnerConfig:
    ranks: int = 1  # data-parallel processes; 0: one a CPU (at most 4), for a small model on this machine
    zero_stage: int = 0  # 0 to 3: what DeepSpeed partitions over the ranks
    gpus_per_rank: float = 0.0  # GPUs that Ray reserves for each rank
    threads: int = 0  # CPU threads of a rank, 0 for all
    lr: float = 1e-6  # peak learning rate of RL
    warmup_steps: int = 0  # steps of linear warm-up
    schedule: str = "constant"  # or "cosine"
    weight_decay: float = 0.0  # of matrices; norms and biases have none
    max_grad_norm: float = 1.0  # gradients are scaled down to this norm
    optimizer_steps_per_batch: int = 1  # minibatches of a step, an update each
    micro_batch_tokens: int = 16384  # tokens of one forward-backward pass; a shared prompt counts once, padding counts
    packing: Packing = Packing.shared  # one row, a prompt once a group; packed: whole sequences; padded: a row each
    advantage: Advantage = Advantage.grpo  # grpo (mean and deviation), dr_grpo (mean) or rloo (mean of the others)
    ratio: Ratio = Ratio.token  # of new to old probability: each token's, or the sequence's geometric mean (GSPO)
    clip_low: float = 0.2  # ratios are clipped to [1 - clip_low, 1 + clip_high]
    clip_high: float = 0.28  # larger than clip_low: DAPO's clip-higher
    aggregation: Aggregation = Aggregation.token  # token mean (DAPO), sequence means (GRPO, GSPO) or constant (Dr.GRPO)
    kl_coef: float = 0.0  # weight of KL(policy || start model); 0 keeps no reference model
    kl_in: KLIn = KLIn.loss  # token by token in the loss, or summed over a response and taken off its reward
    kl_estimator: KL = KL.k3  # k2 or k3; in the reward also k1, the one with an unbiased gradient there
    entropy_coef: float = 0.0  # weight of an entropy bonus on sampled tokens
    importance: Importance = Importance.truncate  # of rollout-learner mismatch w: min(w, cap), mask outside, or none
    importance_cap: float = 2.0  # the cap; mask: w outside [1 / cap, cap] has no policy loss
    timeout_s: float = 1800.0  # seconds after which a learner call counts as hung
    restarts: int = 3  # times that lost ranks are started anew, from the weights they had; 0: none, and no snapshots


@dataclass
class SyncConfig:
    """How new weights reach the rollout engines, and the check that the engines sample from them."""

    transport: Transport = Transport.object_store  # anywhere; collective: Gloo or NCCL; ipc: within a shared GPU
    check: bool = True  # stop the run when a rollout actor samples from other weights than it claims
    max_mean_gap: float = 1e-3  # learner's to engine's log-probabilities, nats per token; about 0.05 suits bfloat16


@dataclass
class TrainerConfig:
    steps: int = 100  # RL steps
    prompts_per_step: int = 32  # prompts (groups) of a step
    max_staleness: int = 0  # versions that weights of a trained token may lie behind; 0: engines and learner take turns
    overlap: Overlap = Overlap.lockstep  # with max_staleness=1: what repeats bit for bit; or free, with 1 and more
    generation_budget: float = 1.0  # times prompts_per_step: most prompts tried while groups are dropped (DAPO)
    rollouts_per_prompt: int = 8  # G, the size of a group
    evaluate_every: int = 0  # steps; 0: only before the first and after the last
    checkpoint_every: int = 0  # steps, of RL, SFT and DPO alike; 0: only after the last
    keep_checkpoints: int = 2  # older ones are deleted
    grace_s: float = 30.0  # for a checkpoint of the last step when the run is told to stop (Ctrl-C, SIGTERM); 0: none
    seed: int = 0  # of everything random in a run
    require_parsing: bool = True  # stop when no answer of the start model parses and no guidance.source=reference helps
    max_idle_steps: int = 5  # steps in a row that train no token and end the run, 0: none
    samples_per_step: int = 4  # trajectories a step written to samples.jsonl
    trackers: list[TrackerName] = field(default_factory=lambda: [TrackerName.tensorboard])  # mlflow, wandb, trackio


@dataclass
class SftConfig:
    steps: int = 800  # optimizer steps
    batch_size: int = 64  # examples an optimizer step
    lr: float = 2e-3  # peak learning rate
    warmup_steps: int = 20  # steps of linear warm-up
    schedule: str = "cosine"  # or "constant"
    hints: bool = True  # also the rows that show a hint; without them hinted rollouts are of little use


@dataclass
class DpoConfig:
    """Direct preference optimization on pairs sampled offline from the start model."""

    prompts: int = 2000  # of data.train that are sampled, at random
    samples: int = 8  # responses a prompt (pass@N)
    min_margin: float = 0.2  # least difference of the rule-aware rewards of a pair, in [0, 1]
    pairs_per_prompt: int = 2  # at most; no two of them share a response
    steps: int = 100  # optimizer steps
    batch_size: int = 32  # pairs an optimizer step
    lr: float = 5e-7  # peak learning rate
    warmup_steps: int = 10  # steps of linear warm-up
    schedule: str = "cosine"  # or "constant"
    beta: float = 0.1  # strength of the pull to the start model
    label_smoothing: float = 0.0  # probability that a preference is wrong (cDPO)
    sft_coef: float = 0.0  # weight of the chosen's negative log-likelihood per token (RPO)


@dataclass
class GroundConfig:
    """References from the policy's own readings, with what is known of a pair after them, and training on them."""

    gold: Gold = Gold.verdicts  # what is known of data.train: verdicts (all, and the tier), or the tier alone
    samples: int = 4  # answers a pair
    temperature: float = 1.0  # of these answers; 0 with ground.samples=1: the likeliest
    hints: bool = True  # ask again with hints, the least first, where no answer's reading supports gold
    rounds: int = 1  # of answers, references and training of the start model; from the second on data.unlabelled, too
    agreement: float = 0.5  # without gold: least share of a pair's answers that are sound and of one tier


@dataclass
class RayConfig:
    mode: RayMode = RayMode.local  # local, cluster or inline; ray=NAME chooses the group
    address: str | None = None  # of the cluster: "auto" in a job or on one of its hosts, or "HEAD:6379"
    cpus: int = 0  # CPUs that a local Ray offers, 0 for enough to place every actor
    namespace: str = "agrl"  # Ray namespace of the actors
    placement: Placement = Placement.separate  # GPUs of their own, or colocated: rank i and engine i share theirs
    keep_alive_s: float = 0.0  # for which engines and learner of a cluster outlive the driver, 0: they end with it


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
    dpo: DpoConfig = field(default_factory=DpoConfig)
    ground: GroundConfig = field(default_factory=GroundConfig)
    ray: RayConfig = field(default_factory=RayConfig)
