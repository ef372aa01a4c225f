"""Waiting for the learner's ranks together, and finding the one that keeps the others waiting.

Ranks meet in collectives, so the fault of one shows in all the others: they hang, or their connections break. What is
wanted is the name of the one, and of its host.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence

from actors.runtime import wait_any
from actors.service import Pending, Service, ServiceDied
from agrl.errors import AgrlError, LearnerLost

LOOK_S = 5.0  # for a rank to say where it is
LAST_WORDS_S = 30.0  # from a broken collective to Ray's word on who has died
COLLECTIVE = re.compile(r"gloo|nccl|connection (reset|closed)", re.IGNORECASE)  # in the message of a broken one
IN_COLLECTIVE = re.compile(r"/(?:torch/distributed|deepspeed/comm)/.*:(?!wrapper)(\w+)$")  # a line of ``Service.where``


def wait_for_ranks(calls: Mapping[Pending, Service], limit_s: float, doing: str) -> None:
    """Wait until every rank has answered; ``limit_s`` seconds without any answer are too many.

    Raises LearnerLost naming the rank that died or hangs, and its host; what a rank raised itself as it is.
    """
    waiting = dict(calls)
    while waiting:
        ready = wait_any(list(waiting), limit_s)
        if not ready:
            raise _hung(list(waiting.values()), f"for learner.timeout_s={limit_s:g} s", doing)
        for done in ready:
            rank = waiting.pop(done)
            try:
                done.result()
            except ServiceDied as death:
                raise _died(death, doing) from death
            except AgrlError:
                raise
            except Exception as error:
                if not COLLECTIVE.search(str(error)):
                    raise
                raise _broken(rank, error, waiting, doing) from error


def _died(death: ServiceDied, doing: str) -> LearnerLost:
    return LearnerLost(f"{death} ({doing})", hint=death.hint)


def _broken(rank: Service, error: Exception, waiting: dict[Pending, Service], doing: str) -> LearnerLost:
    """A collective of ``rank`` broke: because another one died, which Ray says a moment later, or is out of reach."""
    deadline = time.monotonic() + LAST_WORDS_S
    while waiting and (ready := wait_any(list(waiting), max(0.0, deadline - time.monotonic()))):
        for done in ready:
            del waiting[done]
            try:
                done.result()
            except ServiceDied as death:
                return _died(death, doing)
            except Exception:  # its end of the same broken collective: what is wanted is who died
                continue
    if waiting:
        return _hung(list(waiting.values()), f"when the collective of {rank.who()} broke", doing)
    reason = str(error).splitlines()[0]
    return LearnerLost(f"the connection between the learner ranks broke, seen by {rank.who()}: {reason} ({doing})")


def _hung(ranks: Sequence[Service], since: str, doing: str) -> LearnerLost:
    """Who of ``ranks``, none of which has answered, keeps the others waiting."""
    silent, busy, meeting = [], [], []
    deadline = time.monotonic() + LOOK_S
    for rank, answer in [(rank, rank.where()) for rank in ranks]:
        try:
            lines = answer.result(max(0.0, deadline - time.monotonic()))
        except ServiceDied as death:
            return _died(death, doing)
        except TimeoutError:
            silent.append(rank.who())
            continue
        met = [found[1] for line in lines if (found := IN_COLLECTIVE.search(line))]
        if met:
            meeting.append(f"{rank.who()} in {met[-1]}")
        else:
            busy.append(f"{rank.who()} is in {lines[0] if lines else 'native code'}")
    wait = f"; {', '.join(meeting)} wait{'s' * (len(meeting) == 1)} for the others" if meeting else ""
    if silent:
        return LearnerLost(
            f"{', '.join(silent)}: no answer {since} ({doing}){wait}",
            hint="its process is stopped or its host cannot be reached: look at its log (logs/learner-*.log of the "
            "run), at the host and at its network",
        )
    return LearnerLost(
        f"no answer {since} ({doing}): {', '.join(busy) or 'every rank is in a collective'}{wait}",
        hint="is the step too long for learner.timeout_s, or a link between the hosts too slow for it? "
        "logs/learner-*.log of the run say more",
    )
