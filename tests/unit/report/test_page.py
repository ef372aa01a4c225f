"""The report page: everything of a run is on it, nothing is fetched, and partial runs give partial pages."""

import json

import pytest
from rich.console import Console

from agrl.errors import DataError
from agrl.report.findings import WARN, findings
from agrl.report.page import write_report
from agrl.report.recorder import Recorder
from agrl.report.run_data import read_run
from agrl.report.summary import summary_table
from agrl.report.tables import Change, confusion, headline, segments, tiers
from agrl.report.trajectories import choose, kind, spread
from tests.unit.report.fake_run import make_run
from tests.unit.report.html import Balance, fetches


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "tiny", steps=40)


@pytest.fixture(scope="module")
def page(run_dir):
    return write_report(run_dir).read_text()


def test_the_page_is_well_formed_and_its_links_lead_somewhere(page):
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    assert {link.removeprefix("#") for link in parser.links} <= parser.ids


def test_the_page_fetches_nothing(page):
    assert not fetches(page)


@pytest.mark.parametrize(
    "part",
    ["Held-out macro-F1", "Reward components", "Decisions", "drop: zero variance", "Group health", "Weight sync",
     "Rollout against learner", "balanced, before", "balanced, after", "by segment", "Trajectories", "Time of a step",
     "Throughput", "Use of the hardware",
     "4 Excellent", "Configuration", "Rule book", "trained as transfer", "no gold verdict", "Hint level that solved"],
)  # fmt: skip
def test_the_page_shows(page, part):
    assert part in page


def test_before_and_after_stand_side_by_side_with_their_difference(page, run_dir):
    before, after = read_run(run_dir).ends("balanced")
    for end in (before, after):
        assert f"{end['macro_f1']:.3f}" in page
    assert f"{after['macro_f1'] - before['macro_f1']:+.3f}" in page


def test_twelve_trajectories_with_guided_ones_marked(page):
    assert page.count("<article") == 12
    assert 'trajectory guided"' in page


def test_text_of_the_data_cannot_inject_markup(tmp_path):
    with Recorder(tmp_path) as recorder:
        recorder.log(0, {"train/accuracy": 0.5})
        row = {"query": "<script>alert(1)</script>", "title": "a & b", "gold_tier": 4, "tier": 4, "correct": True}
        row |= {"segment": "plain", "text": "<b>", "total": 1.0, "components": {}, "advantage": 0.0, "version": 0}
        recorder.samples(0, [row | {"provenance": "ON_POLICY", "hint_level": 0, "failure": ""}])
    page = write_report(tmp_path).read_text()
    assert "<script" not in page and "&lt;script&gt;" in page and "a &amp; b" in page


def test_a_supervised_run_has_a_page_too(tmp_path):
    with Recorder(tmp_path, "sft") as recorder:
        for step in range(20):
            recorder.log(step, {"loss/total": 2 / (step + 1), "grad_norm": 1.0, "lr": 1e-3, "time/step": 0.1})
    page = write_report(tmp_path).read_text()
    assert "Supervised cold start" in page and "Trajectories" not in page


def test_a_demo_shows_its_cold_start_as_well(tmp_path):
    make_run(tmp_path, steps=3)
    with Recorder(tmp_path / "sft", "sft") as recorder:
        recorder.log(0, {"loss/total": 2.0})
    assert "Supervised cold start" in write_report(tmp_path).read_text()


def test_a_run_that_died_at_its_first_step_has_a_page(tmp_path):
    make_run(tmp_path, steps=1, evaluations=False)
    (tmp_path / "summary.json").unlink()
    (tmp_path / "config.yaml").unlink()
    (tmp_path / "rulebook.yaml").unlink()
    assert "Learning" in write_report(tmp_path).read_text()


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(DataError, match="no such run folder"):
        write_report(tmp_path / "nowhere")
    with pytest.raises(DataError, match="nothing to report"):
        write_report(tmp_path)
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation" / "after-wild.json").write_text("{")
    with pytest.raises(DataError, match=r"after-wild\.json"):
        write_report(tmp_path)


def test_the_summary_table_has_every_set_and_its_change(run_dir):
    write_report(run_dir)
    console = Console(record=True, width=140)
    summary_table(console, run_dir)
    text = console.export_text().replace("\n", "")  # a long path is broken over lines
    before, after = read_run(run_dir).ends("wild")
    assert f"{after['macro_f1'] - before['macro_f1']:+.3f}" in text
    assert "balanced" in text and "report.html" in text and "40 steps;" in text


def test_tables_take_their_numbers_from_the_evaluations(run_dir):
    run = read_run(run_dir)
    before, after = run.ends("balanced")
    changes = {change.name: change for change in headline(run, "balanced")}
    assert (changes["Macro-F1"].before, changes["Macro-F1"].after) == (before["macro_f1"], after["macro_f1"])
    assert changes["Verdict: category"].after == after["verdict_accuracy"]["category"]
    assert next(label for label, _ in tiers(run, "balanced")) == "4 Excellent"
    assert dict((name, n) for name, n, _ in segments(run, "balanced")) == {
        k: v["n"] for k, v in after["segments"].items()
    }
    for _, cells in confusion(run, after):
        assert sum(share for _, share in cells) == pytest.approx(1)


def test_lower_is_better_where_it_is():
    assert Change("x", 0.1, 0.05, lower_is_better=True).gain > 0
    assert Change("x", 0.1, 0.05).gain < 0
    assert Change("x", 0.1, 0.1001).gain == 0  # nothing that the reader could see
    assert Change("x", None, 0.5).delta is None


def test_held_out_points_lie_at_their_steps(run_dir):
    steps, values = read_run(run_dir).evaluated_at("balanced", "macro_f1")
    assert steps == [0, 20, 40] and values == sorted(values)


def test_a_healthy_run_has_good_news(tmp_path):
    make_run(tmp_path)
    texts = [f.text for f in findings(read_run(tmp_path)) if f.level == "good"]
    assert any("balanced" in text for text in texts) and any("log-probabilities" in text for text in texts)


@pytest.mark.parametrize(
    ("metric", "start", "end", "word"),
    [
        ("group/zero_advantage", 0.1, 0.8, "no learning signal"),
        ("group/all_wrong", 0.5, 0.4, "no right answer"),
        ("train/right_tier_wrong_verdict", 0.03, 0.12, "wrong reason"),
        ("train/parse_rate", 0.99, 0.7, "cannot be parsed"),
        ("response/cut_off", 0.0, 0.2, "cut off"),
        ("policy/entropy", 0.8, 0.01, "Entropy"),
        ("policy/clip_fraction", 0.1, 0.5, "clipped"),
        ("reward/invalid", 0, 2, "could not be scored"),
    ],
)
def test_trouble_is_noticed_and_comes_with_advice(tmp_path, metric, start, end, word):
    with Recorder(tmp_path) as recorder:
        for step in range(20):
            recorder.log(step, {metric: start + (end - start) * step / 19})
    warnings = [f for f in findings(read_run(tmp_path)) if f.level == WARN]
    assert [word in w.text for w in warnings] == [True]
    assert warnings[0].advice


def test_a_set_that_got_worse_is_a_warning(tmp_path):
    make_run(tmp_path, steps=2)
    for label, source in (("after", "before"), ("before", "after")):
        old = json.loads((tmp_path / "evaluation" / f"{source}-wild.json").read_text())
        (tmp_path / "evaluation" / f"{label}-swapped.json").write_text(
            json.dumps(old | {"label": label, "set": "swapped"})
        )
    warnings = [f.text for f in findings(read_run(tmp_path)) if f.level == WARN]
    assert any("swapped" in text for text in warnings) and not any("balanced" in text for text in warnings)


def samples(*kinds):
    made = {
        "guided": {"provenance": "TRANSFER", "correct": True},
        "right": {"correct": True},
        "wrong": {"correct": False},
        "unparsed": {"failure": "cut_off"},
    }
    return [{"step": step} | made[name] for step, name in enumerate(kinds)]


def test_trajectories_are_of_every_kind_in_order_of_step():
    many = samples(*["right"] * 50, "guided", *["wrong"] * 50, "unparsed")
    chosen = choose(many, 12)
    assert len(chosen) == 12
    assert {kind(sample) for sample in chosen} == {"guided", "right", "wrong", "unparsed"}
    assert [sample["step"] for sample in chosen] == sorted(sample["step"] for sample in chosen)
    assert choose([], 12) == []


def test_spread_keeps_both_ends_without_repeats():
    items = samples(*["right"] * 100)
    steps = [item["step"] for item in spread(items, 5)]
    assert sorted(steps) == [0, 25, 50, 74, 99]
    assert steps[:2] == [0, 99] and len(set(steps)) == 5
