"""What a run folder remembers, what of it counts, and what would be overwritten."""

import json

import pytest

from agrl.config.compose import load_config, resumed_config
from agrl.driver.folder.run_folder import RunFolder
from agrl.driver.run.description import describe
from agrl.errors import ConfigError
from agrl.relevance.rulebook import load_rulebook


@pytest.fixture
def config(tmp_path):
    model = tmp_path / "start"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_text("weights")
    return load_config(["experiment=agrl_tiny", f"run={tmp_path / 'run'}", f"model.path={model}"])


def started(config, command="train") -> RunFolder:
    run = RunFolder(config.run)
    run.path.mkdir()
    run.start(config, load_rulebook("relevance"), command)
    return run


def checkpoint(run: RunFolder, step: int) -> None:
    folder = run.begin_checkpoint(step)
    (folder / "weights").write_text(str(step))
    run.commit_checkpoint(folder, {"step": step}, keep=2)


def test_what_a_run_was_started_with_is_saved(config):
    run = started(config, "sft")
    assert resumed_config(run.path) == config
    assert (run.path / "rulebook.yaml").read_text() == load_rulebook("relevance").source
    assert json.loads((run.path / "versions.json").read_text())["torch"]
    assert run.about()["command"] == "sft" and "finished" not in run.about()
    run.finish(7)
    assert run.about()["finished"] == 7 and run.about()["command"] == "sft"


def test_the_newest_complete_checkpoint_counts_and_old_ones_and_half_ones_go(config):
    run = RunFolder(config.run)
    assert run.latest() is None
    for step in (10, 20, 30):
        checkpoint(run, step)
    run.begin_checkpoint(40)  # the process dies here
    latest = run.latest()
    assert latest.step == 30 and (latest.folder / "weights").read_text() == "30"
    run.drop_partial()
    assert sorted(p.name for p in run.checkpoints.iterdir()) == ["step-000020", "step-000030"]


def truncate(file):
    file.write_bytes(file.read_bytes()[:-1])


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))


HARM = {
    "has 9,999 of 10,000 bytes": truncate,
    "is not what was written: its checksum differs": flip,
    "is missing": lambda file: file.unlink(),
}


@pytest.mark.parametrize("said", HARM)
@pytest.mark.parametrize("name", ["engine/weights", "state.json"])
def test_the_newest_whole_checkpoint_is_taken_and_what_is_damaged_is_named_and_put_aside(config, said, name):
    run = RunFolder(config.run)
    for step in (1, 2, 3):
        folder = run.begin_checkpoint(step)
        (folder / "engine").mkdir()
        (folder / "engine" / "weights").write_bytes(bytes(10_000))
        run.commit_checkpoint(folder, {"step": step, "more": " " * (10_000 - len('{"step": 1, "more": ""}'))}, keep=3)
    assert run.newest_whole()[0].step == 3 and run.newest_whole()[1] == []
    if (said, name) == ("is missing", "state.json"):
        return  # then it is no checkpoint at all
    HARM[said](run.checkpoints / "step-000003" / name)
    found, passed = run.newest_whole()
    assert found.step == run.latest().step == 2
    assert passed == [f"{run.checkpoints / 'step-000003.damaged'}: {name} {said}"]
    HARM[said](run.checkpoints / "step-000002" / name)
    (run.checkpoints / "step-000001" / "files.json").write_text("{")
    assert run.newest_whole()[0] is None and len(list(run.checkpoints.glob("*.damaged"))) == 3


def test_a_checkpoint_of_an_earlier_version_has_no_checksums_and_counts(config):
    run = RunFolder(config.run)
    checkpoint(run, 5)
    (run.checkpoints / "step-000005" / "files.json").unlink()
    assert run.newest_whole()[0].step == 5


def test_a_model_takes_the_place_of_the_one_before_only_when_it_is_whole(config):
    run = started(config)
    with run.replacing_model() as folder:
        (folder / "config.json").write_text("first")
    with pytest.raises(OSError), run.replacing_model() as folder:
        (folder / "config.json").write_text("half")
        raise OSError("the disk is full")
    assert (run.model / "config.json").read_text() == "first"
    run.drop_partial()
    assert [p.name for p in run.path.iterdir() if "partial" in p.name] == []


def test_a_model_goes_where_the_person_has_linked_it_to(config, tmp_path):
    run, elsewhere = started(config), tmp_path / "large-disk" / "model"
    elsewhere.mkdir(parents=True)
    run.model.symlink_to(elsewhere)
    with run.replacing_model() as folder:
        (folder / "config.json").write_text("new")
    assert run.model.is_symlink() and (elsewhere / "config.json").read_text() == "new"


@pytest.mark.parametrize("name", ["model/config.json", "metrics.jsonl", "samples.jsonl", "summary.json", "report.html"])
def test_what_a_run_has_made_is_found(config, name):
    run = started(config)
    (run.path / name).parent.mkdir(exist_ok=True)
    (run.path / name).write_text("something")
    assert run.holds() == name.split("/")[0]


@pytest.mark.parametrize("name", ["config.yaml", "rulebook.yaml", "evaluation", "tensorboard", "config.json"])
def test_what_somebody_else_keeps_under_our_names_is_found(tmp_path, name):
    (tmp_path / name).write_text("mine")
    assert RunFolder(tmp_path).holds() == name


def test_a_start_that_trained_nothing_leaves_nothing_to_keep(config):
    run = started(config)
    run.save_evaluation("before", "an-earlier-set", {"n": 1})
    for name in ("metrics.jsonl", "samples.jsonl"):
        (run.path / name).touch()
    run.begin_checkpoint(1)
    (run.path / "notes.txt").write_text("of the person")
    assert run.holds() == ""
    run.start(config, load_rulebook("relevance"), "train")
    assert run.load_evaluation("before") == {}, "evaluations of a start that failed are not those of the next"
    assert (run.path / "notes.txt").is_file()


def test_a_start_model_that_was_changed_since_is_no_reference(config):
    run, book = started(config), load_rulebook("relevance")
    run.start(config, book, "train", resume=True)
    (run.path.parent / "start" / "model.safetensors").write_text("trained")
    with pytest.raises(ConfigError, match=r"not the model that .* was started from"):
        run.start(config, book, "train", resume=True)


def test_how_to_go_on_names_the_command_and_quotes_the_folder(config):
    config.run += " of mine"
    run = started(config, "dpo")
    assert run.how_to_go_on() == ""
    (run.path / "metrics.jsonl").write_text("{}")
    assert "no checkpoint was written yet" in run.how_to_go_on()
    checkpoint(run, 20)
    assert "step 20" in run.how_to_go_on() and f"`agrl dpo --resume '{run.path}'`" in run.how_to_go_on()


def test_the_plan_states_the_batch_arithmetic(config):
    text = "\n".join(describe(config, pool_size=8000))
    assert "32 prompts x 8 rollouts = 256 rollouts a step" in text
    assert "2 optimizer steps of 128" in text


@pytest.mark.parametrize(
    ("command", "said"),
    [("dpo", "8 answers to 2,000 of 8,000 pairs, then"), ("ground", "4 answers to each of 8,000 pairs, with hints")],
)
def test_what_samples_first_says_so(config, command, said):
    text = "\n".join(describe(config, 8000, command))
    assert said in text and "rollouts a step" not in text
