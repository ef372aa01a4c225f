"""What the dashboard shows: rows of panels, each with its curves (PromQL) and what a bad one tells you.

A curve of one logged number takes its words from docs/metrics.md. Over actors there are the least, the mean and the
most instead of a line each, so that 512 are drawn as fast as two.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

METRICS = Path(__file__).parents[2] / "docs" / "metrics.md"
RUN = '{run="$run"}'
SHARE, SECONDS, BYTES, NUMBER, NATS, TOKENS, RATE = "percentunit", "s", "bytes", "short", "none", "none", "Bps"


@dataclass(frozen=True)
class Curve:
    """``query``: PromQL. ``about``: what it is, and what a bad value tells. ``needs``: what a cluster must have."""

    query: str
    legend: str
    about: str = ""
    needs: str = ""


@dataclass(frozen=True)
class Panel:
    """``about``: what the panel as a whole tells. ``unit``: Grafana's name of it."""

    title: str
    unit: str
    curves: list[Curve]
    about: str = ""
    stacked: bool = False

    @property
    def description(self) -> str:
        """Markdown."""
        lines = [f"**{curve.legend}**: {curve.about}" for curve in self.curves if curve.about]
        return "\n\n".join(filter(None, [self.about, *lines]))


@dataclass(frozen=True)
class Row:
    title: str
    panels: list[Panel] = field(default_factory=list)


def words(name: str) -> str:
    """What docs/metrics.md says of a number. Raises KeyError when it says nothing."""
    for line in METRICS.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and f"`{name}`" in cells[0]:
            meaning, bad = cells[2], cells[3] if len(cells) > 3 else ""
            told = ". ".join(text[0].upper() + text[1:] for text in (meaning, bad) if text)
            return re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", told.rstrip(".") + ".")  # without links
    raise KeyError(f"{METRICS} does not explain {name}")


def logged(name: str, legend: str = "", documented: str = "") -> Curve:
    """A number that a run logs. ``documented``: the name under which docs/metrics.md has it."""
    metric = "ray_agrl_" + re.sub(r"[^A-Za-z0-9]+", "_", name)
    return Curve(metric + RUN, legend or name, words(documented or name))


def over_actors(metric: str, service: str, about: str) -> list[Curve]:
    """The least, the mean and the most of the actors of a service."""
    each = f'ray_agrl_actor_{metric}{{run="$run",service="{service}"}}'
    names = {"min": "least", "avg": "mean", "max": "most"}
    return [Curve(f"{how}({each})", f"{service}, {name}", about if how == "avg" else "") for how, name in names.items()]


LEARNING = Row(
    "Is it learning?",
    [
        Panel(
            "Right answers",
            SHARE,
            [
                logged("train/accuracy", "accuracy"),
                logged("train/rule_adherence", "rule adherence"),
                logged("train/parse_rate", "parsed"),
                logged("train/right_tier_wrong_verdict", "right tier, wrong verdict"),
            ],
            "Of the rollouts in training, whose prompts the replay chose: below the held-out accuracy.",
        ),
        Panel(
            "Reward",
            NUMBER,
            [logged("reward/total_mean", "mean"), logged("reward/total_std", "standard deviation")],
        ),
        Panel(
            "Reward by component",
            SHARE,
            [
                Curve(
                    '{__name__=~"ray_agrl_reward_.+_mean",__name__!="ray_agrl_reward_total_mean",run="$run"}',
                    "{{__name__}}",
                )
            ],
            "`tier` that rises without the criteria: right for the wrong reason.",
        ),
        Panel(
            "Progress",
            SHARE,
            [Curve(f"ray_agrl_run_step{RUN} / ray_agrl_run_steps{RUN}", "{{phase}}")],
            "Steps done of those asked for. Flat: no step ends, see *Seconds since the last step*.",
        ),
        Panel(
            "Time left",
            SECONDS,
            [
                Curve(
                    f"(ray_agrl_run_steps{RUN} - ray_agrl_run_step{RUN}) * ray_agrl_time_step{RUN}",
                    "{{phase}}",
                )
            ],
            "Steps left, times the seconds of the last one; without evaluations and the export.",
        ),
    ],
)

HEALTHY = Row(
    "Is it healthy?",
    [
        Panel("Loss", NATS, [logged("loss/total", "{{phase}}")]),
        Panel("Gradient norm", NATS, [logged("grad_norm", "{{phase}}")]),
        Panel("Entropy", NATS, [logged("policy/entropy", "entropy")]),
        Panel(
            "Clipped and cut off",
            SHARE,
            [logged("policy/clip_fraction", "clipped tokens"), logged("response/cut_off", "answers cut off")],
        ),
        Panel("Length of an answer", TOKENS, [logged("response/length_mean", "mean tokens")]),
        Panel(
            "Lost numbers",
            NUMBER,
            [
                Curve(
                    f"ray_agrl_run_not_finite{RUN}",
                    "not finite ({{phase}})",
                    "Numbers that were NaN or infinite, since the start. Above 0: one that is a loss or the gradient "
                    "norm ends the run with its name, others are `null` in metrics.jsonl.",
                ),
                logged("reward/invalid", "rollouts without a reward"),
                logged("reward/timeouts", "rollouts not scored in time"),
            ],
        ),
    ],
)

TIME = Row(
    "Where does the time go?",
    [
        Panel(
            "A step by phase",
            SECONDS,
            [
                Curve(
                    '{__name__=~"ray_agrl_time_(sample|rollout|score|guide|learn|broadcast|overhead)",run="$run"}',
                    "{{__name__}}",
                    words("time/<phase>"),
                )
            ],
            stacked=True,
        ),
        Panel("A step", SECONDS, [logged("time/step", "{{phase}}")]),
        Panel(
            "Seconds since the last step",
            SECONDS,
            [Curve(f"time() - ray_agrl_run_last_step_time{RUN}", "{{phase}}")],
            "A saw whose teeth are as high as a step is long. One that goes on rising: the step hangs, or an "
            "evaluation or a checkpoint is being made.",
        ),
        Panel(
            "Tokens a second",
            TOKENS,
            [
                logged("rollout/tokens_per_s", "sampled by all engines"),
                logged("learner/computed_tokens_per_s", "through the learner"),
                logged("learner/useful_tokens_per_s", "trained, without sharing of prompts"),
            ],
        ),
        Panel(
            "Efficiency",
            SHARE,
            [
                logged("rollout/prefix_cache_hits", "prompt tokens from the cache"),
                logged("learner/flop_utilisation", "of the device's operations"),
            ],
        ),
    ],
)

GUIDANCE = Row(
    "Guidance and replay",
    [
        Panel(
            "Decisions",
            NUMBER,
            [logged(f"decisions/{kind}", kind, "decisions/keep") for kind in ("keep", "guide", "drop")],
            stacked=True,
        ),
        Panel(
            "Why dropped, why not guided",
            NUMBER,
            [Curve('{__name__=~"ray_agrl_decisions_(drop|unguided)_.+",run="$run"}', "{{__name__}}")],
            words("decisions/unguided/<reason>"),
        ),
        Panel("Guided share", SHARE, [logged("guide/share", "of the batch")]),
        Panel("Guidance", NUMBER, [logged("guide/solved", "solved"), logged("guide/level_mean", "hint level")]),
        Panel(
            "Groups",
            SHARE,
            [
                logged("group/all_wrong", "all wrong"),
                logged("group/all_right", "all right"),
                logged("group/zero_advantage", "nothing to learn from"),
            ],
        ),
        Panel(
            "The pool",
            SHARE,
            [
                Curve(f"ray_agrl_replay_tried{RUN}", "prompts tried", "Flat under 1: some are never drawn."),
                Curve(
                    f"ray_agrl_replay_accuracy_mean{RUN}",
                    "moving accuracy",
                    "Mean over the prompts tried. It lags behind the policy by as long as an epoch takes.",
                ),
            ],
        ),
    ],
)

WAITING = Row(
    "Who waits for whom?",
    [
        Panel(
            "At work",
            SHARE,
            [Curve(f"avg by (service) (ray_agrl_actor_busy_share{RUN})", "{{service}}")],
            "Share of the time in which an actor of the service was in a call. In a synchronous step engines and "
            "learner take turns: together near 1. Both low: the driver or the network holds them up.",
        ),
        Panel(
            "Engines at work",
            SHARE,
            over_actors("busy_share", "rollout", "Least far under most: one engine holds up the others."),
        ),
        Panel(
            "Requests",
            NUMBER,
            [
                Curve(
                    f"sum by (service) (ray_agrl_actor_queue_length{RUN})",
                    "waiting in {{service}}",
                    "Not begun, in the engines. Always above 0: `rollout.max_concurrent` or the KV cache is too small.",
                ),
                Curve(f"sum(ray_agrl_actor_running{RUN})", "being answered", "Samples that are being decoded."),
                Curve(
                    f"sum by (service) (ray_agrl_pool_queue_length{RUN})",
                    "given to {{service}}",
                    "Pieces of work that are not finished. Growing: more `reward.actors`.",
                ),
            ],
        ),
        Panel(
            "Tokens a second of an engine",
            TOKENS,
            over_actors("tokens_per_s", "rollout", "In finished answers. One far under the others: look at its host."),
        ),
        Panel(
            "The slowest engines",
            TOKENS,
            [Curve(f"bottomk(5, ray_agrl_actor_tokens_per_s{RUN})", "{{actor}} on {{host}}")],
            "Always the same one while the others work: its host is slow, or has something else to do.",
        ),
        Panel(
            "KV cache in use",
            SHARE,
            over_actors("kv_cache_share", "rollout", "At 1: samples are thrown out and computed again."),
        ),
        Panel(
            "Actors",
            NUMBER,
            [
                Curve(f"count by (service) (ray_agrl_pool_restarts{RUN})", "{{service}}, wanted"),
                Curve(f"count by (service) (ray_agrl_actor_busy_share{RUN})", "{{service}}, alive"),
            ],
            "Fewer alive than wanted for longer than a start takes: an actor or its host is gone.",
        ),
        Panel(
            "Restarts",
            NUMBER,
            [Curve(f"sum by (service) (ray_agrl_pool_restarts{RUN})", "{{service}}")],
            words("actors/rollout_restarts"),
        ),
    ],
)

WEIGHTS = Row(
    "Weights",
    [
        Panel(
            "Version",
            NUMBER,
            [
                logged("sync/version", "learner"),
                Curve(f"min(ray_agrl_actor_weight_version{RUN})", "engines, least"),
                Curve(f"max(ray_agrl_actor_weight_version{RUN})", "engines, most"),
            ],
            "Engines behind the learner while they sample: a broadcast was skipped, and the run stops.",
        ),
        Panel(
            "Gap between engines and learner",
            NATS,
            [
                logged("sync/gap_mean", "mean"),
                logged("sync/gap_max", "largest"),
                Curve(
                    f"ray_agrl_run_gap_limit{RUN}", "limit of the mean", "`sync.max_mean_gap`: over it the run stops."
                ),
            ],
        ),
        Panel("Effective sample size", SHARE, [logged("sync/ess", "share of the tokens")]),
        Panel("Broadcast", SECONDS, [logged("time/broadcast", "seconds of a step", "time/<phase>")]),
    ],
)

HOSTS = Row(
    "Hosts",
    [
        Panel(
            "Actors of the run",
            NUMBER,
            [Curve(f"count by (host) (ray_agrl_actor_busy_share{RUN})", "{{host}}")],
            "Where they are. A host that falls to nothing is gone, or cut off.",
        ),
        Panel(
            "Memory of the run",
            BYTES,
            [Curve(f"sum by (host) (ray_agrl_actor_memory_bytes{RUN})", "{{host}}")],
            "Resident, of its actors and its driver; shared pages count in each. Rising step after step: a leak.",
        ),
        Panel(
            "Memory in use",
            SHARE,
            [Curve("ray_node_mem_used / ray_node_mem_total", "{{ip}}")],
            "Of the whole host, as Ray counts it. From 0.95 on Ray kills a process.",
        ),
        Panel(
            "CPUs",
            SHARE,
            [Curve("ray_node_cpu_utilization / 100", "{{ip}}")],
            "All of them at 1 on GPU hosts: tokenising, scoring or another job holds up the GPUs.",
        ),
        Panel(
            "Network",
            RATE,
            [
                Curve("ray_node_network_receive_speed", "{{ip}} in"),
                Curve("ray_node_network_send_speed", "{{ip}} out"),
            ],
            "Tall while weights are broadcast. At the link's rate for long: the broadcast is what a step waits for.",
        ),
        Panel(
            "Object store in use",
            BYTES,
            [Curve("sum by (NodeAddress) (ray_object_store_used_memory)", "{{NodeAddress}}")],
            "Weights and batches on their way. Near its size: Ray writes objects to disk.",
        ),
        Panel(
            "Disk in use", SHARE, [Curve("ray_node_disk_utilization_percentage / 100", "{{ip}}")], "At 1 a run ends."
        ),
        Panel(
            "GPUs",
            SHARE,
            [
                Curve("ray_node_gpus_utilization / 100", "{{ip}} GPU {{GpuIndex}}", needs="GPU"),
                Curve(
                    "ray_node_gram_used / (ray_node_gram_used + ray_node_gram_available)",
                    "{{ip}} GPU {{GpuIndex}}, memory",
                    needs="GPU",
                ),
            ],
            "At work, and memory in use. Low while its engine or rank is at work: small batches, or a slow host.",
        ),
    ],
)

ROWS = [LEARNING, HEALTHY, TIME, GUIDANCE, WAITING, WEIGHTS, HOSTS]
