"""The charts of a report: which metrics are drawn together, under which title, and how to read them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from agrl.report.curves import LIMIT, SERIES, Line, line_svg, spread_caption, spread_svg, stacked_svg
from agrl.report.run_data import RunData

SHARE = (0.0, 1.0)
DECISIONS = ("keep", "guide", "drop")


@dataclass(frozen=True)
class Chart:
    """A drawn chart. ``reading``: one sentence on how to read it. ``legend``: label and index of the colour."""

    title: str
    unit: str
    reading: str
    svg: str
    legend: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Spec:
    """A chart to draw where at least one of its metrics was measured. ``metrics``: metric name -> label."""

    title: str
    unit: str
    reading: str
    metrics: dict[str, str]
    ylim: tuple[float, float] | None = None
    band: str = ""  # metric that is the half-width of the first curve's band
    positive: bool = False  # 0 stands for "nothing was measured in this step"
    log: bool = False
    limit: tuple[str, str] | None = None  # label and configuration key of a tolerance


LEARNING = (
    Spec(
        "Training rollouts",
        "share",
        "Sampled at the training temperature, on the prompts that the replay chose: harder than average.",
        {"train/accuracy": "right tier", "train/rule_adherence": "follows the rules", "train/parse_rate": "parses"},
        SHARE,
    ),
    Spec(
        "Reward",
        "mean ± sd of rollouts",
        "Should rise; the band shrinks as answers agree with each other.",
        {"reward/total_mean": "total"},
        band="reward/total_std",
    ),
    Spec(
        "Right tier, wrong reason",
        "share of rollouts",
        "Right tier though a verdict is wrong or does not lead to it. Accuracy alone hides this; should fall.",
        {"train/right_tier_wrong_verdict": "right tier, wrong verdict"},
    ),
)

GROUPS = (
    Spec(
        "Group health",
        "share of groups",
        "All-wrong groups teach nothing without guidance; all-right ones are mastered; no variance, no gradient.",
        {"group/all_wrong": "all wrong", "group/all_right": "all right", "group/zero_advantage": "no advantage"},
        SHARE,
    ),
    Spec(
        "Guided rollouts",
        "share of the batch",
        "How much of what is learned from was guided; falls as prompts are mastered.",
        {"guide/share": "guided rollouts"},
    ),
    Spec(
        "Guided groups",
        "groups a step",
        "Groups that were to be guided, and those for which a sound answer was found: far apart, hints do not help.",
        {"decisions/guide": "to be guided", "guide/solved": "solved"},
    ),
    Spec(
        "Hint level that solved",
        "mean level",
        "1 tells the least. Falling: less help is needed.",
        {"guide/level_mean": "level"},
        positive=True,
    ),
)

GRADIENT = Spec("Gradient norm", "before clipping", "Spikes come before divergence.", {"grad_norm": "norm"})
RATE = Spec("Learning rate", "", "As scheduled.", {"lr": "lr"})

SUPERVISED = (
    Spec(
        "Loss",
        "nats a token",
        "Cross-entropy of the reference answers; a second fall is the model learning to look values up.",
        {"loss/total": "loss"},
        log=True,
    ),
    GRADIENT,
    RATE,
)

PREFERENCE = (
    Spec("Loss", "nats a pair", "0.69 at the start: no preference yet.", {"loss/total": "loss"}),
    Spec(
        "Implicit reward",
        "beta x log ratio to the start",
        "Both falling: the model unlearns, it does not learn.",
        {"dpo/reward_chosen": "chosen", "dpo/reward_rejected": "rejected", "dpo/reward_margin": "margin"},
    ),
    Spec("Pairs ranked rightly", "share", "By the implicit reward.", {"dpo/reward_accuracy": "right"}, SHARE),
    GRADIENT,
    RATE,
)

OPTIMISATION = (
    Spec(
        "Loss",
        "nats a token",
        "The surrogate hovers near zero by construction: watch for jumps.",
        {"loss/total": "loss"},
    ),
    Spec("KL to the reference", "nats a token", "How far the policy has moved.", {"loss/kl": "KL"}),
    GRADIENT,
    Spec(
        "Entropy",
        "nats a token",
        "Falls as the policy grows sure; near zero it explores no more.",
        {"policy/entropy": "entropy"},
    ),
    Spec(
        "Clipped tokens",
        "share",
        "Over about 0.2 the policy moves too far in a step.",
        {"policy/clip_fraction": "clipped"},
    ),
    Spec(
        "Response length",
        "tokens",
        "A drift up or down often means that the reward is being gamed.",
        {"response/length_mean": "length"},
    ),
    RATE,
)

SYNC = (
    Spec(
        "Rollout against learner",
        "nats a token",
        "Same tokens, same weights, two programs: the gap should be rounding. Over the tolerance the run stops.",
        {"sync/gap_max": "largest", "sync/gap_mean": "mean"},
        log=True,
        limit=("tolerance (mean)", "sync.max_mean_gap"),
    ),
    Spec(
        "Effective sample size",
        "share",
        "1: importance weights are all equal, that is, rollouts come from the learner's own distribution.",
        {"sync/ess": "effective sample size"},
        SHARE,
    ),
)


THROUGHPUT = (
    Spec(
        "Throughput",
        "tokens a second",
        "Useful over computed: what sharing prompts saves. Useful counts every sequence with a prompt of its own.",
        {
            "rollout/tokens_per_s": "sampled",
            "learner/computed_tokens_per_s": "learner, computed",
            "learner/useful_tokens_per_s": "learner, useful",
        },
        positive=True,
        log=True,
    ),
    Spec(
        "Use of the hardware",
        "share",
        "Prompt tokens that the engines had in their cache; the learner's operations against a large matrix product.",
        {"rollout/prefix_cache_hits": "prefix-cache hits", "learner/flop_utilisation": "learner's FLOP utilisation"},
        SHARE,
    ),
)


def draw(run: RunData, specs: tuple[Spec, ...], phase: str = "rl") -> list[Chart]:
    """The charts of ``specs`` for which the run has measurements."""
    return [chart for spec in specs if (chart := _draw(run, spec, phase)) is not None]


def held_out(run: RunData) -> Iterator[Chart]:
    """Macro-F1 on the held-out sets over training, for sets that were evaluated more than once."""
    points = [(name, *run.evaluated_at(name, "macro_f1")) for name in run.sets]
    lines = [Line(name, x, y, colour, marks=True) for colour, (name, x, y) in enumerate(points) if len(x) > 1]
    if lines:
        reading = "What counts: examples never trained on."
        yield Chart("Held-out macro-F1", "greedy answers", reading, line_svg(lines, SHARE), _legend(lines))


def spread(
    title: str,
    unit: str,
    runs: Mapping[str, Sequence[Line]],
    ylim: tuple[float, float] | None = None,
    band: str = "range",
) -> Chart:
    """Learning curves of several methods (method -> a curve for each run) with the spread over runs; see ``curves``."""
    legend = tuple(
        (f"{method} ({len(lines)})", colour % len(SERIES)) for colour, (method, lines) in enumerate(runs.items())
    )
    return Chart(title, unit, spread_caption(band), spread_svg(runs, ylim, band), legend)


def components(run: RunData) -> Iterator[Chart]:
    """The reward components, and how often one could not be computed."""
    means = {name: name[len("reward/") : -len("_mean")] for name in run.names(r"reward/(?!total_)\w+_mean")}
    reading = "Which part of the judgement improves. Tier rising without the criteria: right for the wrong reason."
    invalid = {
        name: name[len("reward/") : -len("_invalid")]
        for name in run.names(r"reward/\w+_invalid")
        if any(run.series(name)[1])
    }
    left_out = "No gold verdict, or the scorer failed: left out of the statistics, never counted as 0."
    specs = (
        Spec("Reward components", "mean of valid rollouts", reading, means, SHARE),
        Spec("Components not computed", "rollouts a step", left_out, invalid),
    )
    yield from draw(run, specs)


def decisions(run: RunData) -> Iterator[Chart]:
    """What was decided for the groups of every step, by reason, and why groups went without guidance."""
    names = run.names(r"decisions/(keep|guide|drop)/\w+") or run.names(r"decisions/(keep|guide|drop)")
    names.sort(key=lambda name: DECISIONS.index(name.split("/")[1]))
    labels = {name: ": ".join(name.split("/")[1:]).replace("_", " ") for name in names}
    reading = "Keep: trained as sampled. Guide: the worst rollouts are replaced by guided ones. Drop: not trained."
    yield from _stacked(run, "Decisions", "groups a step", reading, labels, _decision_colours(names))
    passed = {name: name.rpartition("/")[2].replace("_", " ") for name in run.names(r"decisions/unguided/\w+")}
    reading = "Low-accuracy groups that got no guidance, and why."
    yield from _stacked(run, "Passed over", "groups a step", reading, passed)


def step_time(run: RunData) -> Iterator[Chart]:
    """Seconds of every step by phase."""
    labels = {name: name.removeprefix("time/") for name in run.names(r"time/\w+") if name != "time/step"}
    reading = "Where a step goes; a lone tall bar is a straggler or a restart."
    yield from _stacked(run, "Time of a step", "seconds", reading, labels)


def _draw(run: RunData, spec: Spec, phase: str) -> Chart | None:
    lines = []
    for colour, (name, label) in enumerate(spec.metrics.items()):
        x, y = run.series(name, phase)
        if spec.log or spec.positive:  # nor has a gap of exactly 0 a place on a logarithmic axis
            x, y = [a for a, b in zip(x, y, strict=True) if b > 0], [b for b in y if b > 0]
        if x:
            band = run.series(spec.band, phase)[1] if not lines else []
            lines.append(Line(label, x, y, colour, band if len(band) == len(y) else None))
    if not lines:
        return None
    limit = run.setting(spec.limit[1]) if spec.limit else None
    legend = _legend(lines) + (((spec.limit[0], LIMIT),) if limit else ())
    return Chart(spec.title, spec.unit, spec.reading, line_svg(lines, spec.ylim, spec.log, limit), legend)


def _stacked(
    run: RunData, title: str, unit: str, reading: str, labels: dict[str, str], colours=None
) -> Iterator[Chart]:
    """The metrics that ``labels`` names as stacked bars over steps, without those that were never above 0."""
    colours = colours or [i % len(SERIES) for i in range(len(labels))]
    parts = [
        (label, colour, [row.get(name) or 0.0 for row in run.rl])
        for (name, label), colour in zip(labels.items(), colours, strict=True)
        if any(run.series(name)[1])
    ]
    if parts:
        steps = [row["step"] for row in run.rl]
        svg = stacked_svg(steps, [values for _, _, values in parts], [colour for _, colour, _ in parts])
        yield Chart(title, unit, reading, svg, tuple((label, colour) for label, colour, _ in parts))


def _legend(lines: list[Line]) -> tuple[tuple[str, int], ...]:
    """What the page shows above a chart; a single curve needs no name beside the title."""
    return tuple((line.label, line.colour) for line in lines) if len(lines) > 1 else ()


def _decision_colours(names: list[str]) -> list[int]:
    """Blues for keep, oranges for guide, grey and others for drop; several reasons of one decision differ."""
    tones = {"keep": [0, 5], "guide": [1, 6], "drop": [7, 4, 3, 2]}
    decided = [name.split("/")[1] for name in names]
    return [tones[d][decided[:i].count(d) % len(tones[d])] for i, d in enumerate(decided)]
