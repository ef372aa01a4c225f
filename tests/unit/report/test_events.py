"""What became of every actor, a line for each change."""

import pytest

from actors.pool import ServicePool
from actors.service import ServiceDied
from agrl.report.events import EventLog, deaths, read_events, said
from agrl.report.page import write_report
from tests.unit.actors.fakes import EchoEngine, FragileRuntime
from tests.unit.report.fake_run import make_run


def test_a_state_that_stays_is_no_event(tmp_path):
    log = EventLog(tmp_path / "new")
    for state in ("starting", "stale", "serving", "serving", "dead"):
        log("rollout-0", state, "killed" if state == "dead" else "", "a (10.0.0.1)", 3)
    log("rollout-1", "serving")
    rows = read_events(tmp_path / "new")
    assert [row["state"] for row in rows] == ["starting", "stale", "serving", "dead", "serving"]
    assert {k: v for k, v in rows[3].items() if k != "time"} == {
        **{"step": 3, "actor": "rollout-0", "state": "dead", "cause": "killed", "host": "a (10.0.0.1)"}
    }
    assert (rows[4]["step"], rows[4]["host"]) == (None, "")
    assert [row["time"] for row in rows] == sorted(row["time"] for row in rows)


def row(time, actor, state):
    return {"time": time, "step": 1, "actor": actor, "state": state, "cause": state, "host": ""}


def test_a_death_lasts_until_the_next_one_serves():
    events = [row(1, "a", "starting"), row(2, "a", "serving"), row(3, "a", "dead"), row(4, "a", "starting")]
    events += [row(5, "b", "suspect"), row(6, "a", "dead"), row(8, "a", "serving"), row(9, "a", "dead")]
    found = deaths(events)
    assert [(e["actor"], e["time"], e["back_s"]) for e in found] == [("a", 3, 5), ("b", 5, None), ("a", 9, None)]
    assert said(found) == "3 actors died; 1 of them replaced"
    assert (
        said(found[:1]) == "1 actor died and was replaced" and said(found[:1] * 2) == "2 actors died and were replaced"
    )
    assert said([]) == ""


@pytest.mark.parametrize(("cause", "state"), [(ServiceDied("killed"), "dead"), (TimeoutError("no answer"), "suspect")])
def test_a_pool_tells_who_was_lost_and_when_another_one_serves(tmp_path, cause, state):
    runtime = FragileRuntime()
    runtime.on_change = EventLog(tmp_path)
    settings = {"size": 1, "restarts": 3, "timeout_s": 5.0, "log_dir": None, "built": "stale"}
    pool = ServicePool(runtime, "rollout", EchoEngine, ("", None), **settings)
    pool.ready()
    pool.note(0, "serving")
    pool.replace(0, cause)
    states = [(event["state"], event["cause"]) for event in read_events(tmp_path)]
    assert states == [("stale", ""), ("serving", ""), (state, str(cause)), ("stale", "")]


def test_the_page_shows_deaths_where_there_are_any(tmp_path):
    run = make_run(tmp_path / "run", steps=3)
    assert "Actors that died" not in write_report(run).read_text()
    log = EventLog(run)
    log("learner-0", "serving")
    log("learner-0", "dead", "learner-0 died: <killed>\nmore", "a (10.0.0.1)", 2)
    page = write_report(run).read_text()
    assert "Actors that died" in page and "learner-0 died: &lt;killed&gt;</td>" in page
