"""The results of a grid of runs: known numbers come out right, and what is missing is left out, not invented."""

import json

import numpy as np
import pytest

from agrl.errors import DataError
from agrl.report.grid import read_cells, training, unfinished
from agrl.report.grid_statistics import COMPARED, FAMILY, notes, tabulate
from agrl.report.statistics import compare_paired, holm, summarise_nested
from tests.unit.report.fake_grid import write_cell


def tabulated(out):
    return tabulate(read_cells(out))


def write_scores(out, method, scores, name="balanced"):
    """One cell for each {(start, seed): macro-F1}."""
    for (start, seed), score in scores.items():
        write_cell(out, method, start, seed, {name: {"macro_f1": score}})


SCORES = {(0, 0): 0.5, (0, 1): 0.6, (1, 0): 0.7, (1, 1): 0.4}


def test_mean_deviation_and_interval_over_starts_and_seeds(tmp_path):
    write_scores(tmp_path, "grpo", SCORES)
    found, expected = tabulated(tmp_path)["methods"]["grpo"]["balanced"]["macro_f1"], summarise_nested(SCORES)
    assert found["mean"] == pytest.approx(0.55) and found["sd"] == pytest.approx(np.std([0.5, 0.6, 0.7, 0.4], ddof=1))
    assert found["ci95"] == list(expected.interval)
    assert (found["n"], found["interval_over"]) == (4, "starts and seeds")


def test_a_single_start_gives_an_interval_over_its_seeds(tmp_path):
    write_scores(tmp_path, "grpo", {(0, seed): x for seed, x in enumerate((0.4, 0.5, 0.6))})
    table = tabulated(tmp_path)
    found = table["methods"]["grpo"]["balanced"]["macro_f1"]
    low, high = found["ci95"]
    assert 0.4 <= low < found["mean"] < high <= 0.6 and found["interval_over"] == "seeds"
    assert any("one start" in note for note in notes(table))


def test_one_run_a_start_gives_an_interval_over_starts(tmp_path):
    write_scores(tmp_path, "sft", {(0, 0): 0.4, (1, 0): 0.5})
    assert tabulated(tmp_path)["methods"]["sft"]["balanced"]["macro_f1"]["interval_over"] == "starts"


def test_one_run_has_neither_deviation_nor_interval(tmp_path):
    write_scores(tmp_path, "agrl", {(0, 0): 0.4})
    found = tabulated(tmp_path)["methods"]["agrl"]["balanced"]["macro_f1"]
    assert found == {"mean": 0.4, "sd": None, "ci95": None, "n": 1, "interval_over": None}


def test_every_metric_is_on_one_level_and_explained(tmp_path):
    write_cell(tmp_path, "agrl", rows=[{"grad_norm": 1.0}])
    table = tabulated(tmp_path)
    found = table["methods"]["agrl"]["balanced"]
    means = {name: found[name]["mean"] for name in ("f1_4", "f1_1", "verdict_category", "good_bad_f1", "parse_rate")}
    assert means == {"f1_4": 0.4, "f1_1": 0.1, "verdict_category": 0.9, "good_bad_f1": 0.7, "parse_rate": 1.0}
    assert table["metrics_explained"].keys() == found.keys() | table["methods"]["agrl"]["training"].keys()


def test_a_metric_that_is_none_is_in_no_statistic(tmp_path):
    alone = {"rule_adherence": None, "right_tier_wrong_verdict": None, "verdict_accuracy": {}}
    write_cell(tmp_path, "sft_tier_only", sets={"balanced": alone})
    write_cell(tmp_path, "grpo")
    write_cell(tmp_path, "grpo", seed=1, sets={"balanced": {"rule_adherence": None}})
    methods = tabulated(tmp_path)["methods"]
    nothing = {"mean": None, "sd": None, "ci95": None, "n": 0, "interval_over": None}
    for metric in ("rule_adherence", "right_tier_wrong_verdict", "verdict_category"):
        assert methods["sft_tier_only"]["balanced"][metric] == nothing
    assert methods["grpo"]["balanced"]["rule_adherence"]["n"] == 1 and methods["grpo"]["balanced"]["macro_f1"]["n"] == 2


def test_methods_come_in_their_order_and_strangers_last_under_their_names(tmp_path):
    for method in ("zeta", "agrl", "sft", "alpha"):
        write_cell(tmp_path, method)
    table = tabulated(tmp_path)
    assert list(table["methods"]) == ["sft", "agrl", "alpha", "zeta"] == list(table["cells"])
    assert table["labels"]["agrl"] == "AGRL" and table["labels"]["zeta"] == "zeta"


def test_stability_and_cost_on_known_numbers():
    rows = [
        {"group/all_wrong": wrong, "grad_norm": norm, "reward/total_mean": reward, "tokens/response": 10}
        for wrong, norm, reward in zip(
            (0.9, 0.8, 0.7, 0.6, 0.4, 0.2), (1, 2, 3, 1, 2, 3), (0, 3, 2, 5, 4, 7), strict=True
        )
    ]
    found = training(rows, 12.5)
    assert found["dead_group_share"] == pytest.approx(0.3)  # of the last two of six steps
    assert found["gradient_variance"] == pytest.approx(np.var([1, 2, 3, 1, 2, 3], ddof=1))
    assert found["reward_variance"] == pytest.approx(np.var([3, -1, 3, -1, 3], ddof=1) / 2)
    assert (found["response_tokens"], found["seconds"]) == (60, 12.5)
    assert found["zero_advantage_share"] is None and found["trained_tokens"] is None


def test_the_reward_variance_is_that_of_the_noise_whatever_the_trend():
    noise = np.random.default_rng(0).normal(0, 0.1, 4000)
    for trend in (0.0, 0.5):
        rows = [{"reward/total_mean": trend * step + float(x)} for step, x in enumerate(noise)]
        assert training(rows, 1.0)["reward_variance"] == pytest.approx(0.01, rel=0.1)


def test_a_run_without_rl_has_a_cost_in_seconds_alone():
    assert {name for name, value in training([], 3.0).items() if value is not None} == {"seconds"}


def test_steps_without_a_measurement_are_passed_over():
    rows = [{"grad_norm": 1.0}, {"grad_norm": None}, {}, {"grad_norm": 3.0}]
    assert training(rows, 1.0)["gradient_variance"] == pytest.approx(2.0)


def test_comparisons_pair_runs_of_one_start_and_seed(tmp_path):
    grpo = {(0, 0): 0.40, (0, 1): 0.42, (1, 0): 0.45, (1, 1): 0.44}
    agrl = {(0, 0): 0.50, (0, 1): 0.49, (1, 0): 0.57, (1, 1): 0.52, (2, 0): 0.9}  # the last has no partner
    write_scores(tmp_path, "grpo", grpo)
    write_scores(tmp_path, "agrl", agrl)
    found = tabulated(tmp_path)["comparisons"]
    expected = compare_paired(grpo, {key: agrl[key] for key in grpo})
    one = found["agrl-grpo"]["balanced"]["macro_f1"]
    assert (one["n"], one["p"], one["ci95"]) == (4, expected.p, list(expected.interval))
    assert one["mean"] == pytest.approx(expected.mean) and list(found) == ["agrl-grpo"]


def test_the_start_is_the_partner_of_all_its_seeds(tmp_path):
    write_scores(tmp_path, "sft", {(0, 0): 0.4, (1, 0): 0.5})
    write_scores(tmp_path, "agrl", {(0, 3): 0.5, (0, 4): 0.6, (1, 3): 0.7, (2, 3): 0.9})
    one = tabulated(tmp_path)["comparisons"]["agrl-sft"]["balanced"]["macro_f1"]
    assert one["n"] == 3 and one["mean"] == pytest.approx(np.mean([0.1, 0.2, 0.2]))


def test_holm_is_over_the_family_within_a_set_and_metric(tmp_path):
    generator = np.random.default_rng(1)
    for method in ("sft", "grpo", "grpo_rrs", "grpo_agr", "dpo", "agrl"):
        for seed in range(5):
            sets = {name: {"macro_f1": generator.random()} for name in ("balanced", "wild")}
            write_cell(tmp_path, method, 0, seed, sets)
    found = tabulated(tmp_path)["comparisons"]
    assert list(found) == [f"{b}-{a}" for b, a in FAMILY]
    for name in ("balanced", "wild"):
        for metric in COMPARED:
            family = [sets[name][metric] for sets in found.values()]
            assert [one["p_holm"] for one in family] == holm([one["p"] for one in family])


def test_a_metric_that_is_none_on_one_side_makes_no_pair(tmp_path):
    write_cell(tmp_path, "grpo", sets={"balanced": {"rule_adherence": None}})
    write_cell(tmp_path, "agrl")
    assert list(tabulated(tmp_path)["comparisons"]["agrl-grpo"]["balanced"]) == ["macro_f1"]


def test_an_unfinished_run_is_left_out_and_named(tmp_path):
    write_cell(tmp_path, "agrl")
    (write_cell(tmp_path, "agrl", seed=1) / "cell.json").unlink()
    assert tabulated(tmp_path)["cells"] == {"agrl": 1} and unfinished(tmp_path) == ["agrl/start-0/seed-1"]


def test_a_folder_without_a_finished_run_says_what_to_do(tmp_path):
    (write_cell(tmp_path, "agrl") / "cell.json").unlink()
    for out in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(DataError, match="no finished run") as error:
            read_cells(out)
        assert "agrl reproduce" in error.value.hint


@pytest.mark.parametrize(
    "file, text",
    [
        ("cell.json", "{"),
        ("cell.json", "[]"),
        ("cell.json", json.dumps({"method": "agrl", "start": 0, "seed": 0})),
        ("cell.json", json.dumps({"method": "grpo", "start": 0, "seed": 0, "wall_s": 1})),
        ("evaluation/after-balanced.json", "{"),
        ("metrics.jsonl", "{\n{}\n"),
    ],
)
def test_a_corrupt_file_is_named(tmp_path, file, text):
    path = write_cell(tmp_path, "agrl") / file
    path.write_text(text)
    with pytest.raises(DataError, match=str(path)) as error:
        read_cells(tmp_path)
    assert error.value.hint


@pytest.mark.parametrize(
    "file, text",
    [
        ("evaluation/after-balanced.json", json.dumps({"label": "after", "set": "balanced"})),
        ("evaluation/after-balanced.json", '{"label": "after", "set": "b", "accuracy": NaN, "macro_f1": 1}'),
        ("evaluation/after-balanced.json", '{"label": "after", "set": "training", "accuracy": 1, "macro_f1": 1}'),
        ("evaluation/after-balanced.json", '{"label": "before", "set": "b"}'),
        ("metrics.jsonl", '{"phase": "rl"}\n'),
        ("metrics.jsonl", '{"phase": "rl", "step": 0, "grad_norm": "much"}\n'),
    ],
)
def test_what_no_run_writes_is_refused_by_the_name_of_its_folder(tmp_path, file, text):
    folder = write_cell(tmp_path, "agrl")
    (folder / file).write_text(text)
    with pytest.raises(DataError, match=str(folder)):
        read_cells(tmp_path)
