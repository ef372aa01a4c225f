"""Who may take services over, and when nobody has come for too long."""

from queue import SimpleQueue

import pytest

from actors import ray_lease
from actors.lease import Absence, Holder, Lease
from actors.scoring import RewardWorker
from agrl.errors import ActorError


def test_somebody_is_away_too_long_only_when_away_all_the_time():
    absence = Absence(10.0)
    seen = [(True, 0), (False, 5), (False, 14.9), (True, 15), (False, 16), (False, 25.9), (False, 26)]
    assert [absence.too_long(there, now) for there, now in seen] == [False] * 6 + [True]


def test_a_lease_names_no_secret_and_covers_what_is_costly_to_start():
    lease = Lease("a secret", 60.0)
    assert "secret" not in lease.namespace and lease.namespace == Lease("a secret", 5.0, "code").namespace
    assert lease.namespace != Lease("another secret", 60.0).namespace
    covered = [name for name in ("learner-0", "rollout-12", "reward-0", "replay") if lease.covers(name)]
    assert covered == ["learner-0", "rollout-12"]


def test_services_of_other_settings_or_other_code_have_another_fingerprint():
    lease = Lease("a secret", 60.0, "code")
    made = lease.fingerprint(RewardWorker, ("model", 1), [("THREADS", "1")])
    assert made == Lease("another", 5.0, "code").fingerprint(RewardWorker, ("model", 1), [("THREADS", "1")])
    others = [lease.fingerprint(RewardWorker, ("model", 2), [("THREADS", "1")])]
    others += [lease.fingerprint(RewardWorker, ("model", 1), [("THREADS", "2")])]
    others += [Lease("a secret", 60.0, "other code").fingerprint(RewardWorker, ("model", 1), [("THREADS", "1")])]
    assert len({made, *others}) == 4


def test_a_service_answers_its_driver_until_another_one_that_knows_the_secret_takes_it_over():
    holder = Holder("first", "a secret", "made of this")
    holder.check("first")
    with pytest.raises(ActorError, match="only the run that started it"):
        holder.change("guessed", "second")
    holder.check("first")
    assert holder.change("a secret", "second") == "made of this"
    holder.check("second")
    with pytest.raises(ActorError, match="belongs to another driver of this run"):
        holder.check("first")  # what it had asked before may come late


def test_one_that_ends_with_its_driver_is_taken_over_by_nobody():
    with pytest.raises(ActorError):
        Holder("first", "", "made of this").change("", "second")


def test_a_keeper_that_cannot_look_ends_its_process_so_that_ray_starts_another(monkeypatch, capsys):
    def fails(job):
        raise ConnectionError("no answer from Ray")

    ended: SimpleQueue[int] = SimpleQueue()
    monkeypatch.setattr(ray_lease, "is_running", fails)
    monkeypatch.setattr(ray_lease.os, "_exit", ended.put)
    ray_lease.Keeper("agrl-0", "keeper#0", "01000000", 10.0)
    assert ended.get(timeout=10) == 1
    assert "no answer from Ray" in capsys.readouterr().err
