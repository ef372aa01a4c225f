"""What runs in a reward actor: the rule book's scorer over lists of responses."""

from __future__ import annotations

from collections.abc import Sequence

from agrl.relevance.records import Example, Order, RewardMode, Score
from agrl.relevance.reward import Scorer
from agrl.relevance.rulebook import read_rulebook

Scorable = tuple[Example, str, str]
"""An example, the text of a response to it, and the response's finish reason."""


class RewardWorker:
    """Scores responses by a rule book given as its YAML text. Raises RuleBookError."""

    def __init__(self, book_source: str, order: Order, mode: RewardMode) -> None:
        self._scorer = Scorer(read_rulebook(book_source), order, mode)

    def score(self, items: Sequence[Scorable]) -> list[Score]:
        """One score a response, in order."""
        return [self._scorer.score(example, text, finish_reason) for example, text, finish_reason in items]
