"""Guidance of the groups that the replay actor asks it for: own earlier answers, answers to a hint, or ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from agrl.config.schema import GuidanceSource, Semantics
from agrl.driver.generation.rollout import roll_out
from agrl.driver.services.services import Services
from agrl.relevance.hints import hint_levels, reference_judgement
from agrl.relevance.records import Provenance, Rollout, Score, ScoredGroup
from replay.core import GuideOutcome
from replay.decisions import Decision
from replay.guidance import choose_solutions, replace_worst

PROVENANCE = {
    Semantics.expert: Provenance.EXPERT,
    Semantics.transfer: Provenance.TRANSFER,
    Semantics.conditional: Provenance.ON_POLICY,
}


def guide(
    s: Services, groups: Sequence[ScoredGroup], decisions: Sequence[Decision], step: int
) -> tuple[list[ScoredGroup], dict[str, GuideOutcome]]:
    """Replace the worst rollouts of every group whose decision is "guide"; the other groups come back as they are.

    Also returns, for each guided prompt, whether a sound answer was found, where, and at which hint level.
    """
    asked = {i: decision.count for i, decision in enumerate(decisions) if decision.kind == "guide"}
    recalled = _recalled(s, [groups[i] for i in asked], list(asked.values())) if asked else []
    found = {i: (solutions, 0) for i, solutions in zip(asked, recalled, strict=True) if solutions}
    if left := [i for i in asked if i not in found]:
        source = _references if s.config.guidance.source == GuidanceSource.reference else _hinted
        solutions, levels = source(s, [groups[i] for i in left], [asked[i] for i in left], step)
        found |= dict(zip(left, zip(solutions, levels, strict=True), strict=True))
    mixed, outcomes = list(groups), {}
    for i, (guided, level) in found.items():
        mixed[i] = replace_worst(groups[i], guided, asked[i])
        outcomes[groups[i].example.id] = GuideOutcome(bool(guided), level, len(guided), recalled=i not in left)
    return mixed, outcomes


Solutions = list[list[tuple[Rollout, Score]]]


def _recalled(s: Services, groups: list[ScoredGroup], counts: list[int]) -> Solutions:
    """The policy's own earlier sound answers to prompts that it fails now, scored again; trained as TRANSFER.

    They were sampled under this very prompt but by weights long gone, whose log-probabilities say nothing of today's
    policy: the ratio is taken against the learner's own.
    """
    if not s.config.guidance.recall:
        return [[] for _ in groups]
    stored = s.replay.call("recall", {g.example.id: n for g, n in zip(groups, counts, strict=True)}).result()
    own = [[replace(r, provenance=Provenance.TRANSFER) for r in stored.get(g.example.id, [])] for g in groups]
    flat = [(g.example, r.text, r.finish_reason) for g, kept in zip(groups, own, strict=True) for r in kept]
    scores = iter(s.rewards.score(flat) if flat else [])
    scored = [[(rollout, next(scores)) for rollout in kept] for kept in own]
    return [choose_solutions(pairs, n, s.config.guidance.accept) for pairs, n in zip(scored, counts, strict=True)]


def _references(s: Services, groups: list[ScoredGroup], counts: list[int], step: int) -> tuple[Solutions, list[int]]:
    """The ground-truth trajectory of each group's example, once: from the data, or rendered from gold verdicts."""
    solutions: Solutions = []
    for group in groups:
        judgement = reference_judgement(s.book, group.example)
        if judgement is None:
            solutions.append([])
            continue
        text, ids = s.encoder.response(judgement)
        rollout = Rollout(
            example_id=group.example.id,
            prompt_ids=s.encoder.prompt(group.example),
            response_ids=ids,
            logprobs=np.zeros(len(ids), np.float32),
            text=text,
            version=-1,
            provenance=PROVENANCE[s.config.guidance.semantics],
        )
        score = s.rewards.score([(group.example, text, "stop")])[0]
        solutions.append([(rollout, score)])
    return solutions, [0] * len(groups)


def _hinted(s: Services, groups: list[ScoredGroup], counts: list[int], step: int) -> tuple[Solutions, list[int]]:
    """Fresh rollouts under the least hint that yields a sound answer: level by level, only for the still unsolved."""
    solutions: Solutions = [[] for _ in groups]
    reached = [0] * len(groups)
    ladders = [[n for n in hint_levels(s.book, g.example) if n >= s.config.guidance.first_hint_level] for g in groups]
    for level in range(1, len(s.book.hints.levels) + 1):
        unsolved = [i for i, ladder in enumerate(ladders) if not solutions[i] and level in ladder]
        if not unsolved:
            continue
        prompts = [(groups[i].example, level) for i in unsolved]
        answers = roll_out(s, prompts, s.config.guidance.hinted_rollouts, step, s.config.guidance.temperature)
        for i, tried in zip(unsolved, answers, strict=True):
            candidates = list(zip(tried.rollouts, tried.scores, strict=True))
            found = choose_solutions(candidates, counts[i], s.config.guidance.accept)
            solutions[i] = [(_as_trained(s, groups[i], rollout), score) for rollout, score in found]
            reached[i] = level
    return solutions, reached


def _as_trained(s: Services, group: ScoredGroup, rollout: Rollout) -> Rollout:
    """A hinted answer under the prompt that it is trained under: without the hint, unless ``conditional`` keeps it."""
    if s.config.guidance.semantics == Semantics.conditional:
        return rollout
    provenance = PROVENANCE[s.config.guidance.semantics]
    logprobs = np.zeros_like(rollout.logprobs) if provenance == Provenance.EXPERT else rollout.logprobs
    return replace(rollout, prompt_ids=s.encoder.prompt(group.example), logprobs=logprobs, provenance=provenance)
