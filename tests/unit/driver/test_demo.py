"""What `agrl demo` does with a folder that holds something."""

import pytest

from agrl.driver.experiments import demo as module
from agrl.driver.experiments.demo import demo
from agrl.driver.folder.run_folder import RunFolder
from agrl.errors import ConfigError


@pytest.fixture
def demos(monkeypatch):
    """The folders of the demos that were run; each leaves a file of its own."""
    ran = []

    def run(out, seed, rl, sft, console):
        (out / f"made-{len(ran)}").touch()
        ran.append(out)

    monkeypatch.setattr(module, "_demo", run)
    return ran


def test_a_demo_that_ended_before_anything_was_trained_is_begun_anew(demos, tmp_path):
    for _ in range(2):
        demo(tmp_path / "demo", 0, [], debug=True)
    assert len(demos) == 2 and [p.name for p in (tmp_path / "demo").glob("made-*")] == ["made-1"]


@pytest.mark.parametrize("state", ["finished", "resumable"])
def test_a_trained_demo_is_kept_unless_a_fresh_one_is_asked_for(demos, tmp_path, state):
    out = tmp_path / "demo"
    demo(out, 0, [], debug=True)
    if state == "finished":
        (out / "summary.json").write_text("{}")
    else:
        run = RunFolder(out)
        run.commit_checkpoint(run.begin_checkpoint(50), {"step": 50}, keep=1)
    with pytest.raises(ConfigError, match=str(out)) as refused:
        demo(out, 0, [], debug=True)
    assert "--fresh" in refused.value.hint
    assert ("report.html" if state == "finished" else f"agrl train --resume {out}") in refused.value.hint
    assert (out / "made-0").is_file()
    demo(out, 0, [], debug=True, fresh=True)
    assert not (out / "made-0").exists() and (out / "made-1").is_file()


def test_what_is_no_demo_is_never_deleted(demos, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match="not a demo"):
        demo(tmp_path, 0, [], debug=True, fresh=True)
    assert (tmp_path / "thesis.tex").is_file() and demos == []


def test_a_setting_that_is_wrong_deletes_nothing(demos, tmp_path):
    demo(tmp_path / "demo", 0, [], debug=True)
    with pytest.raises(ConfigError, match="no_such_key"):
        demo(tmp_path / "demo", 0, ["trainer.no_such_key=1"], debug=True, fresh=True)
    assert (tmp_path / "demo" / "made-0").is_file()
