"""The charts of a report: which metrics are drawn together, under which title, and how to read them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from agrl.report.curves import Line, line_svg, stacked_svg
from agrl.report.run_data import RunData

SHARE = (0.0, 1.0)
LATE_PHASES = ("start", "checkpoint", "export")  # seconds outside the training step


@dataclass(frozen=True)
class Chart:
    """A drawn chart: title, unit, one sentence on how to read it, and the inline SVG."""

    title: str
    unit: str
    reading: str
    svg: str


@dataclass(frozen=True)
class Spec:
    """A chart to draw where at least one of its metrics was measured. ``metrics``: metric name -> label."""

    title: str
    unit: str
    reading: str
    metrics: dict[str, str]
    ylim: tuple[float, float] | None = None
    band: str = ""  # metric that is the half-width of the first curve's band
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
        "Guidance",
        "share",
        "How much of the batch is guided, and how often a hint leads to a sound answer. The share should fall.",
        {"guide/share": "guided rollouts", "guide/solved": "solved with a hint"},
    ),
    Spec(
        "Hint level that solved",
        "mean level",
        "1 tells the least. Falling: less help is needed.",
        {"guide/level_mean": "level"},
    ),
)

OPTIMISATION = (
    Spec(
        "Loss",
        "nats a token",
        "The surrogate hovers near zero by construction: watch for jumps.",
        {"loss/total": "loss"},
    ),
    Spec("KL to the reference", "nats a token", "How far the policy has moved.", {"loss/kl": "KL"}),
    Spec("Gradient norm", "before clipping", "Spikes come before divergence.", {"grad_norm": "norm"}),
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
    Spec("Learning rate", "", "As scheduled.", {"lr": "lr"}),
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
    ),
)


def draw(run: RunData, specs: tuple[Spec, ...], phase: str = "rl") -> list[Chart]:
    """The charts of ``specs`` for which the run has measurements."""
    return [chart for spec in specs if (chart := _draw(run, spec, phase)) is not None]


def held_out(run: RunData) -> Iterator[Chart]:
    """Macro-F1 on the held-out sets over training, when there are points between the ends or only ends."""
    lines = []
    for colour, name in enumerate(run.sets):
        x, y = run.evaluated_at(name, "macro_f1")
        if len(x) > 1:
            lines.append(Line(name, x, y, colour, marks=True))
    if lines:
        yield Chart(
            "Held-out macro-F1", "greedy answers", "What counts: examples never trained on.", line_svg(lines, SHARE)
        )


def components(run: RunData) -> Iterator[Chart]:
    """The reward components, and how often one could not be computed."""
    means = {name: name[7:-5] for name in run.names(r"reward/(?!total_)\w+_mean")}
    reading = (
        "Which part of the judgement improves. `tier` rising before the criteria: answers right for the wrong reason."
    )
    if means:
        yield from draw(run, (Spec("Reward components", "mean of valid rollouts", reading, means, SHARE),))
    invalid = {n: n[7:-8] for n in run.names(r"reward/\w+_invalid") if any(run.series(n)[1])}
    reading = "No gold verdict, or the scorer failed: left out of the statistics, never counted as 0."
    if invalid:
        yield from draw(run, (Spec("Components not computed", "rollouts a step", reading, invalid),))


def decisions(run: RunData) -> Iterator[Chart]:
    """What was decided for the groups of every step, by reason."""
    names = run.names(r"decisions/(keep|guide|drop)/\w+") or run.names(r"decisions/(keep|guide|drop)")
    names.sort(key=lambda name: ("keep", "guide", "drop").index(name.split("/")[1]))
    if names:
        parts = {" ".join(n.split("/")[1:]).replace("_", " "): _aligned(run, n) for n in names}
        reading = "Keep: trained as sampled. Guide: the worst rollouts are replaced by guided ones. Drop: not trained."
        steps = [row["step"] for row in run.rl]
        yield Chart("Decisions", "groups a step", reading, stacked_svg(steps, parts, _decision_colours(names)))
    passed = {n: n.rpartition("/")[2].replace("_", " ") for n in run.names(r"decisions/unguided/\w+")}
    if passed:
        reading = "Low-accuracy groups that got no guidance, and why."
        yield from draw(run, (Spec("Passed over", "groups a step", reading, passed),))


def step_time(run: RunData) -> Iterator[Chart]:
    """Seconds of every step by phase."""
    names = [name for name in run.names(r"time/\w+") if name != "time/step"]
    if names:
        parts = {name.removeprefix("time/"): _aligned(run, name) for name in names}
        steps = [row["step"] for row in run.rl]
        svg = stacked_svg(steps, parts, [i % 8 for i in range(len(parts))])
        yield Chart("Time of a step", "seconds", "Where a step goes; a lone tall bar is a straggler or a restart.", svg)


def _draw(run: RunData, spec: Spec, phase: str) -> Chart | None:
    lines = []
    for colour, (name, label) in enumerate(spec.metrics.items()):
        x, y = run.series(name, phase)
        if spec.log:  # a gap of exactly 0 has no place on a logarithmic axis
            x, y = [a for a, b in zip(x, y, strict=True) if b > 0], [b for b in y if b > 0]
        if x:
            band = run.series(spec.band, phase)[1] if not lines else []
            lines.append(Line(label, x, y, colour, band if len(band) == len(y) else None))
    if not lines:
        return None
    limit = (spec.limit[0], run.setting(spec.limit[1])) if spec.limit and run.setting(spec.limit[1]) else None
    return Chart(spec.title, spec.unit, spec.reading, line_svg(lines, spec.ylim, spec.log, limit))


def _aligned(run: RunData, name: str, phase: str = "rl") -> list[float]:
    """One value for every recorded step, 0 where the metric is missing."""
    return [row.get(name) or 0.0 for row in run.metrics.get(phase, [])]


def _decision_colours(names: list[str]) -> list[int]:
    """Blue for keep, orange for guide, greys and reds for drop."""
    tones = {"keep": [0, 5], "guide": [1, 6], "drop": [7, 4, 3, 2]}
    used: dict[str, int] = {}
    colours = []
    for name in names:
        decision = name.split("/")[1]
        colours.append(tones[decision][used.get(decision, 0) % len(tones[decision])])
        used[decision] = used.get(decision, 0) + 1
    return colours
