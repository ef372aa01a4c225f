"""``agrl compare`` of two prediction files: what is printed and written, what is refused, and what is not started."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from agrl.cli import main
from agrl.data.predictions import write_predictions
from agrl.relevance.metrics import Prediction
from agrl.relevance.records import Judgement, Product
from tests.unit.relevance.strategies import make_example


def answers(tiers, gold=4):
    return [
        Prediction(
            make_example(gold, id=f"e{i}", query=f"query {i}", product=Product(f"title {i}")),
            f"Tier: {tier}",
            tier and Judgement(tier, {}),
            "" if tier else "empty",
        )
        for i, tier in enumerate(tiers)
    ]


@pytest.fixture
def files(tmp_path):
    a = write_predictions(tmp_path / "a.jsonl", {"balanced": answers([1] * 9 + [4, None])})
    return str(a), str(write_predictions(tmp_path / "b.jsonl", {"balanced": answers([4] * 9 + [None, 2])}))


def test_two_files_are_compared(files, tmp_path, capsys):
    result, page = tmp_path / "new" / "result.json", tmp_path / "new" / "page.html"
    assert main(["compare", *files, "--json", str(result), "--html", str(page), "--examples", "3"]) == 0
    shown = capsys.readouterr().out
    assert "balanced: B is nearer to gold" in shown and "0.909" in shown and str(page) in shown
    found = json.loads(result.read_text())
    tally = found["sets"]["balanced"]
    assert (tally["good"], tally["same"], tally["bad"]) == (10, 0, 1)
    assert (found["a"], found["b"]) == files
    assert [row["id"] for row in found["good_examples"]] == ["e0", "e1", "e2"]
    assert [row["b"]["failure"] for row in found["bad_examples"]] == ["empty"]
    assert "Where B loses most" in page.read_text()


def test_files_need_neither_torch_nor_ray_nor_vllm(files):
    code = (
        "import sys; from agrl.cli import main; main(sys.argv[1:]); "
        "print([name for name in ('torch', 'ray', 'vllm', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, "compare", *files], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def refused(arguments, capsys) -> str:
    assert main(["compare", *arguments]) == 1
    return " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_other_examples_are_refused_by_name_and_number(files, tmp_path, capsys):
    other = write_predictions(tmp_path / "c.jsonl", {"balanced": answers([4] * 3, gold=3)})
    said = refused([files[0], str(other)], capsys)
    assert "balanced: 8 examples only in A ('e3', 'e4', 'e5', ...)" in said
    assert "balanced: 3 examples with another gold tier ('e0': 4 in A, 3 in B" in said


def test_a_broken_file_is_named_by_line_and_field(files, tmp_path, capsys):
    broken = tmp_path / "broken.jsonl"
    broken.write_text(Path(files[0]).read_text().replace('"gold_tier": 4', '"gold_tier": 0', 1))
    assert "line 1, field gold_tier: expected a tier of 4, 3, 2, 1, found 0" in refused([files[1], str(broken)], capsys)


def test_files_have_no_settings(files, capsys):
    assert "data.max_evaluation=5" in refused([*files, "data.max_evaluation=5"], capsys)


@pytest.mark.parametrize("number", ["-1", "few"])
def test_a_wrong_number_of_examples_is_refused(files, number, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["compare", *files, "--examples", number])
    assert stop.value.code == 2 and "--examples" in capsys.readouterr().err


def test_help_teaches(capsys):
    with pytest.raises(SystemExit):
        main(["compare", "--help"])
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("Good", "win rate", "McNemar", "--predictions", "examples:", "docs/compare"))
