"""What a practised eye would notice in a run: short findings, each with what to do, from the measurements alone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean

from agrl.report.run_data import Evaluation, RunData

GOOD, NOTE, WARN = "good", "note", "warn"


@dataclass(frozen=True)
class Finding:
    """``level``: good, note or warn. ``text``: what was seen. ``advice``: what it means or what to do."""

    level: str
    text: str
    advice: str = ""


def findings(run: RunData) -> list[Finding]:
    """All findings of a run, warnings first."""
    checks = (_held_out, _segments, _sync, _signal, _stuck, _wrong_reason, _parsing, _cut_off, _policy, _services)
    found = [finding for check in checks for finding in check(run)]
    return sorted(found, key=lambda finding: (WARN, GOOD, NOTE).index(finding.level))


def noise(before: Evaluation, after: Evaluation) -> float:
    """How large a difference of accuracies chance alone makes, about 95 %, for two independent sets of answers."""
    variance = sum(e["accuracy"] * (1 - e["accuracy"]) / e["n"] for e in (before, after))
    return 1.96 * math.sqrt(variance)


def _held_out(run: RunData) -> Iterator[Finding]:
    for name in run.sets:
        before, after = run.ends(name)
        if not (before and after):
            continue
        change, chance = after["accuracy"] - before["accuracy"], noise(before, after)
        text = f"Accuracy on {name} went from {before['accuracy']:.3f} to {after['accuracy']:.3f} ({change:+.3f})"
        if abs(change) <= chance:
            yield Finding(NOTE, f"{text}.", f"With {after['n']:,} examples that is within chance (± {chance:.3f}).")
        elif change > 0:
            yield Finding(GOOD, f"{text}.", f"Chance explains at most ± {chance:.3f}; seeds vary on top of that.")
        else:
            yield Finding(WARN, f"{text}.", "Training made it worse: look at the reward, the KL and the learning rate.")


def _segments(run: RunData) -> Iterator[Finding]:
    for name in run.sets:
        before, after = run.ends(name)
        old, new = (e.get("segments", {}) if e else {} for e in (before, after))
        worse = [
            f"{segment} ({new[segment]['accuracy'] - old[segment]['accuracy']:+.2f})"
            for segment in new
            if segment in old
            and old[segment]["accuracy"] - new[segment]["accuracy"] > noise(old[segment], new[segment])
        ]
        if worse:
            yield Finding(
                WARN, f"Worse than before on {name}: {', '.join(worse)}.", "Read trajectories of these segments."
            )


def _sync(run: RunData) -> Iterator[Finding]:
    steps, gaps = run.series("sync/gap_mean")
    if not gaps:
        return
    worst, limit = max(gaps), run.setting("sync.max_mean_gap")
    text = f"Rollout and learner log-probabilities differ by at most {worst:.1e} nats a token on average"
    if limit is not None and worst > 0.5 * limit:
        step = steps[gaps.index(worst)]
        yield Finding(WARN, f"{text} (step {step}).", f"Close to the tolerance, sync.max_mean_gap={limit:g}.")
    else:
        yield Finding(GOOD, f"{text}.", "The rollout actors sampled from the weights that the learner believes.")


def _signal(run: RunData) -> Iterator[Finding]:
    share = _late(run, "group/zero_advantage")
    if share is not None and share > 0.5:
        right = _late(run, "group/all_right") or 0.0
        advice = (
            "Most are all right: the prompts have become easy; harder data, or stop here."
            if right > share / 2
            else "More rollouts a prompt, a higher temperature, or denser rewards bring variance back."
        )
        yield Finding(WARN, f"At the end {share:.0%} of the groups gave no learning signal (no variance).", advice)


def _stuck(run: RunData) -> Iterator[Finding]:
    share = _late(run, "group/all_wrong")
    if share is not None and share > 0.25:
        advice = (
            "Guidance does not reach them: see why groups are passed over; raise guidance.max_share or the hint level."
            if run.setting("guidance.enabled", False)
            else "guidance.enabled=true gives such prompts guided trajectories."
        )
        yield Finding(WARN, f"At the end {share:.0%} of the groups had no right answer at all.", advice)


def _wrong_reason(run: RunData) -> Iterator[Finding]:
    early, late = _early(run, "train/right_tier_wrong_verdict"), _late(run, "train/right_tier_wrong_verdict")
    if late is not None and late > 0.05 and late > 1.5 * early:
        yield Finding(
            WARN,
            f"Right tier for a wrong reason: {early:.1%} of answers early, {late:.1%} late.",
            "Accuracy hides this; raise the weights of the criteria and of consistency, or gate the tier on them.",
        )
    accuracy, adherence = _late(run, "train/accuracy"), _late(run, "train/rule_adherence")
    if accuracy is not None and adherence is not None and adherence > 0.9 and accuracy < 0.5:
        yield Finding(
            WARN,
            f"Consistently wrong: {adherence:.0%} of answers follow from their verdicts, {accuracy:.0%} are right.",
            "The verdicts are the problem, not the table: look at the criteria's reward components.",
        )


def _parsing(run: RunData) -> Iterator[Finding]:
    early, late = _early(run, "train/parse_rate"), _late(run, "train/parse_rate")
    if late is not None and (late < 0.9 or late < early - 0.05):
        yield Finding(
            WARN,
            f"{1 - late:.1%} of the answers cannot be parsed at the end ({1 - early:.1%} at the start).",
            "More supervised steps, a higher weight of `format`, or a lower temperature.",
        )
    invalid = sum(run.series("reward/invalid")[1])
    if invalid:
        yield Finding(
            WARN, f"{invalid:,.0f} rollouts could not be scored and were left out.", "See logs/ of the reward actors."
        )


def _cut_off(run: RunData) -> Iterator[Finding]:
    share = _late(run, "response/cut_off")
    if share is not None and share > 0.02:
        yield Finding(WARN, f"{share:.1%} of the answers are cut off at the end.", "Raise task.max_response_tokens.")


def _policy(run: RunData) -> Iterator[Finding]:
    early, late = _early(run, "policy/entropy"), _late(run, "policy/entropy")
    if late is not None and early > 0 and late < 0.1 * early:
        yield Finding(
            WARN,
            f"Entropy fell from {early:.2g} to {late:.2g} nats a token: the policy hardly explores any more.",
            "A lower learning rate, a higher clip (learner.clip_high), or a stop a little earlier.",
        )
    clipped = _late(run, "policy/clip_fraction")
    # a sequence ratio has a far narrower range, which many sequences leave in a healthy run (GSPO, section 5.2)
    if clipped is not None and clipped > 0.2 and run.setting("learner.ratio") != "sequence":
        yield Finding(
            WARN, f"{clipped:.0%} of the tokens are clipped.", "The policy moves too far in a step: lower learner.lr."
        )


def _services(run: RunData) -> Iterator[Finding]:
    for kind in ("rollout", "reward"):
        restarts = max(run.series(f"actors/{kind}_restarts")[1], default=0)
        if restarts:
            died = f"{restarts:.0f} times a {kind} actor died" if restarts > 1 else f"A {kind} actor died"
            yield Finding(NOTE, f"{died} and was replaced.", "Why: the actors' logs in logs/.")


def _early(run: RunData, name: str) -> float:
    values = run.series(name)[1]
    return fmean(values[: max(1, len(values) // 5)]) if values else 0.0


def _late(run: RunData, name: str) -> float | None:
    """The mean over the last fifth of the steps; None when the metric was never measured."""
    values = run.series(name)[1]
    return fmean(values[-max(1, len(values) // 5) :]) if values else None
