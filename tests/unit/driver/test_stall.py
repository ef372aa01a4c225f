"""A run that learns nothing is stopped, and told why."""

import pytest

from agrl.config.compose import load_config
from agrl.driver.run.stall import StallWatch, explain, needs_answers, refuse_unparsed
from agrl.errors import NothingLearnedError

IDLE, BUSY = {"train/parse_rate": 0.0}, {"tokens/trained": 7, "train/parse_rate": 0.0}


def observed(most_idle, *steps):
    watch = StallWatch(most_idle)
    for metrics in steps:
        watch.observe(metrics)
    return watch


def test_so_many_idle_steps_in_a_row_end_a_run_and_a_step_that_trains_begins_the_count_anew():
    watch = observed(3, IDLE, IDLE, BUSY, IDLE, IDLE)
    with pytest.raises(
        NothingLearnedError, match="3 steps in a row trained no token: no answer is a judgement"
    ) as raised:
        watch.observe(IDLE)
    assert "agrl sft" in raised.value.hint and "trainer.max_idle_steps" in raised.value.hint
    assert watch.trained == 7


def test_a_run_that_trained_nothing_never_ends_as_a_success():
    watch = observed(0, *[IDLE] * 20)
    with pytest.raises(NothingLearnedError, match="no step of the run trained a token"):
        watch.finish()
    observed(0, *[IDLE] * 20, BUSY, IDLE).finish()


def test_a_resumed_run_goes_on_counting():
    resumed = StallWatch(3)
    resumed.load_state_dict(observed(3, BUSY, IDLE, IDLE).state_dict())
    resumed.finish()
    with pytest.raises(NothingLearnedError):
        resumed.observe(IDLE)


@pytest.mark.parametrize(
    ("metrics", "why", "what_to_do"),
    [
        ({"response/cut_off": 1.0, "train/parse_rate": 0.0}, "cut off", "task.max_response_tokens"),
        ({"train/parse_rate": 0.0, "group/all_wrong": 1.0}, "no answer is a judgement", "agrl sft"),
        ({"train/parse_rate": 1.0, "group/all_right": 1.0}, "every tier right", "harder examples"),
        ({"train/parse_rate": 0.9, "group/all_wrong": 1.0}, "no group has any tier right", "guidance"),
        ({"train/parse_rate": 0.9, "group/all_wrong": 0.5}, "the same reward", "rollouts_per_prompt"),
    ],
)
def test_the_reason_and_what_to_do_come_from_the_metrics(metrics, why, what_to_do):
    found = explain(metrics)
    assert why in found[0] and what_to_do in found[1]


def test_a_start_model_of_which_nothing_parses_is_refused():
    nothing = {"n": 300, "parse_rate": 0.0, "failures": {"wrong_line": 290, "cut_off": 10}}
    with pytest.raises(
        NothingLearnedError, match=r"not one of 600 answers of models/x .*wrong_line, cut_off"
    ) as raised:
        refuse_unparsed({"a": nothing, "b": nothing}, "models/x")
    assert "agrl sft" in raised.value.hint and "trainer.require_parsing=false" in raised.value.hint
    refuse_unparsed({"a": nothing, "b": nothing | {"parse_rate": 0.01}}, "models/x")
    refuse_unparsed({}, "models/x")


@pytest.mark.parametrize(
    ("words", "needed"),
    [
        ([], True),
        (["trainer.require_parsing=false"], False),
        (["guidance.source=reference"], False),
        (["guidance.source=reference", "algorithm=grpo"], True),
    ],
)
def test_a_model_may_begin_without_answers_where_ground_truth_teaches_it_or_where_the_person_says_so(words, needed):
    assert needs_answers(load_config(["experiment=agrl_tiny", *words])) == needed
