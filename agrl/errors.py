"""The errors a user can meet. Each message names what is wrong; the hint says what to do about it."""

from __future__ import annotations


class AgrlError(Exception):
    """Base of all errors that are explained to the user. ``hint`` says what to do about it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def __reduce__(self):  # keeps the hint when an error crosses a process boundary
        return type(self), (str(self), self.hint)


class ConfigError(AgrlError):
    """A configuration key is unknown, has the wrong type, or takes part in an impossible combination."""


class DiskError(AgrlError):
    """A disk is full; the message names it and what is free on it."""


class RuleBookError(AgrlError):
    """A rule book is malformed; the message names the file and the key."""


class DataError(AgrlError):
    """A data file is missing or malformed; the message names the file, and the row and field where there is one."""


class ModelError(AgrlError):
    """A model or tokenizer cannot be loaded or does not fit the task."""


class ActorError(AgrlError):
    """An actor died or hung and could not be replaced; the message names it."""


class ClusterError(AgrlError):
    """A cluster cannot be joined, has no room, or one of its hosts lacks something; the message names the host."""


class RewardError(AgrlError):
    """Scoring failed for so much of a step that training on the rest would be wrong."""


class WeightSyncError(AgrlError):
    """A rollout actor samples from other weights than the learner believes."""


class DivergenceError(AgrlError):
    """The loss, a gradient or a log-probability is not finite, or the policy has collapsed."""


class NothingLearnedError(AgrlError):
    """A run has nothing to learn from: no answer parses, or no step trains a token."""


class LearnerError(AgrlError):
    """A learner rank died or failed; the message names the rank, the step and the last checkpoint."""


class LearnerLost(LearnerError):
    """A learner rank died or hangs, or the ranks cannot reach each other: ranks started anew can make it good."""
