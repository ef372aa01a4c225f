"""``agrl data``: exit codes, JSON for machines, flags made of the settings."""

import json

import pytest

from agrl.cli import main
from agrl.data.files import read_examples

SMALL = ["--seed-rows", "44", "--pool-rows", "44", "--balanced-rows", "44", "--wild-rows", "10"]


def test_make_validate_and_stats_agree(tmp_path, capsys):
    assert main(["data", "make", "--out", str(tmp_path), *SMALL, "--json"]) == 0
    counts = json.loads(capsys.readouterr().out)
    assert counts == {"seed": 44, "train": 44, "balanced": 44, "wild": 10}
    files = [str(tmp_path / f"{name}.parquet") for name in counts]
    assert main(["data", "validate", *files, "--rulebook", "relevance"]) == 0
    assert capsys.readouterr().out.count(": ok") == 4
    assert main(["data", "stats", *files, "--json"]) == 0
    stats = json.loads(capsys.readouterr().out)
    assert [stats[file]["rows"] for file in files] == list(counts.values())
    assert main(["data", "stats", files[0]]) == 0
    assert "rows: 44" in capsys.readouterr().out


def test_flags_reach_the_catalogue(tmp_path, capsys):
    rates = [f"--teacher-{name}" for name in ("negation", "alternative", "implicit", "accessory", "partial")]
    rates += ["--teacher-substitute", "--teacher-table"]
    flags = [word for rate in rates for word in (rate, "0")]
    assert main(["data", "make", "--out", str(tmp_path), *SMALL, "--hinted-share", "0", *flags]) == 0
    seed = read_examples(tmp_path / "seed.parquet")
    assert all(e.reference.tier == e.tier and e.hint_level == 0 for e in seed)
    assert "seed.parquet: 44 rows" in capsys.readouterr().out


def test_validate_fails_and_names_what_is_wrong(tmp_path, capsys):
    path = tmp_path / "bad.jsonl"
    path.write_text(json.dumps({"id": "1", "query": "", "product": {"title": "t"}, "tier": 9}) + "\n")
    assert main(["data", "validate", str(path)]) == 1
    out = capsys.readouterr().out
    assert f"{path}: row 1, field query: is empty" in out
    assert f"{path}: row 1, field tier: expected a tier of 4, 3, 2, 1, found 9" in out
    assert main(["data", "validate", str(path), "--json"]) == 1
    assert [p["field"] for p in json.loads(capsys.readouterr().out)["problems"][str(path)]] == ["query", "tier"]


@pytest.mark.parametrize("arguments", [["stats", "none.parquet"], ["make", "--out", "x", "--teacher-table", "2"]])
def test_errors_are_one_block_and_exit_code_1(arguments, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["data", *arguments]) == 1
    assert "Traceback" not in capsys.readouterr().err


def test_help_names_the_files_and_the_rates(capsys):
    with pytest.raises(SystemExit):
        main(["data", "make", "--help"])
    text = capsys.readouterr().out
    assert all(word in text for word in ("seed.parquet", "balanced.parquet", "--teacher-negation", "examples:"))
