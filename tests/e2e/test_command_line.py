"""The command line end to end, each command in a process of its own, without Ray where that is asked for."""

import json
import shutil
import signal

import pytest
from safetensors.torch import load_file

from agrl.driver.folder.run_folder import RunFolder
from agrl.report.recorder import read_jsonl
from tests.e2e.runs import agrl, ended
from tests.e2e.small_world import make_world, overrides

TAUGHT = ("guidance.source=reference", "guidance.tau=1.0")  # so that a model that knows nothing has what to learn from


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


def test_inline_start_training_and_evaluation_need_no_ray_and_any_folder_will_do(world, tmp_path):
    tmp_path /= "20261126_1200, a [v2] größe"
    agrl("sft", *overrides(world, tmp_path / "sft", "ray=inline", "sft.steps=30"))
    start = f"model.path={tmp_path / 'sft' / 'model'}"
    said = agrl("train", *overrides(world, tmp_path / "run", "ray=inline", "trainer.steps=2", *TAUGHT, start))
    assert "in this process (no Ray)" in said and "Held-out sets" in said
    assert "WARNING" not in said and "INFO" not in said, "third-party output belongs in the log"
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 2
    said = agrl("train", "--resume", tmp_path / "run", "trainer.steps=3", "loss=gspo")
    assert "sequence ratios" in said
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 3
    result = tmp_path / "result.json"
    words = ("ray=inline", "--json", result, "--baselines", world / "data" / "train.parquet")
    said = agrl("eval", tmp_path / "run", *words)
    assert "tfidf_logistic" in said
    found = json.loads(result.read_text())
    assert found["sets"]["balanced"]["n"] == 16
    assert found["baselines"]["majority"]["wild"]["accuracy"] <= 1


def test_an_error_is_one_block_and_debug_shows_the_trace(world, tmp_path):
    wrong = overrides(world, tmp_path / "run", "data.train=nowhere.parquet")
    said = agrl("train", *wrong, code=1)
    assert "nowhere.parquet does not exist" in said and "Traceback" not in said
    assert "Traceback" in agrl("train", *wrong, "--debug", code=1)


def test_a_model_that_answers_nothing_is_not_trained_and_the_person_is_told_what_to_do_first(world, tmp_path):
    words = overrides(world, tmp_path / "run", "ray=inline", "trainer.steps=1", "data.max_evaluation=2")
    said = agrl("train", *words, code=1)
    assert "not one of 4 answers" in said and "agrl sft" in said and "trainer.require_parsing=false" in said
    said = agrl("train", *words, "trainer.require_parsing=false", code=1)
    assert "no step of the run trained a token" in said
    assert not (tmp_path / "run" / "model").exists()


def test_sft_and_dpo_that_were_stopped_end_with_the_weights_of_an_undisturbed_run(world, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    often = ["ray=inline", "trainer.checkpoint_every=20", "data.max_evaluation=2", "sft.steps=120"]
    agrl("sft", *overrides(world, whole, *often))
    words = overrides(world, broken, *often)
    _, code, said = ended(("sft", *words), (broken / "checkpoints" / "step-000020").exists, signal.SIGTERM)
    assert code == 143 and f"agrl sft --resume {broken}" in said
    assert RunFolder(broken).latest().step == len(list(read_jsonl(broken / "metrics.jsonl"))), "the step is written"
    assert not (broken / "model").exists()
    agrl("sft", "--resume", broken)
    assert weights(broken) == weights(whole)
    assert [row["step"] for row in read_jsonl(broken / "metrics.jsonl")] == list(range(120))

    other = tmp_path / "other"
    shutil.copytree(whole, other)
    for lost in ("model", "checkpoints/step-000120"):  # as if it had ended after step 100
        shutil.rmtree(other / lost)
    assert "Resumed on 1 rank, ZeRO 1 (was 1 rank, ZeRO 0)" in agrl("sft", "--resume", other, "learner.zero_stage=1")
    expected, found = (load_file(run / "model" / "model.safetensors") for run in (whole, other))
    assert max((found[name] - expected[name]).abs().max() for name in expected) < 1e-4

    assert "model.path" in agrl("dpo", *overrides(world, whole, f"model.path={whole / 'model'}"), code=1)
    assert "holds" in agrl("sft", *overrides(world, whole), code=1), "a run is not overwritten"
    assert weights(broken) == weights(whole)

    dpo, again = tmp_path / "dpo", tmp_path / "again"
    short = ["dpo.prompts=40", "dpo.samples=4", "dpo.min_margin=0.01", "dpo.batch_size=1", "dpo.steps=4", "dpo.lr=1e-3"]
    every = ["trainer.checkpoint_every=1", "trainer.keep_checkpoints=9", f"model.path={whole / 'model'}"]
    agrl("dpo", *overrides(world, dpo, *often, *short, *every))
    shutil.copytree(dpo, again)
    for lost in ("model", "checkpoints/step-000003", "checkpoints/step-000004"):  # as if it had ended after step 2
        shutil.rmtree(again / lost)
    agrl("dpo", "--resume", again, "ray=local")  # no engine is in the learner's process, as it is with ray=inline
    assert weights(again) == weights(dpo) != weights(whole)


def weights(run):
    return (run / "model" / "model.safetensors").read_bytes()
