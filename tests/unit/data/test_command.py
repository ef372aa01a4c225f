"""``agrl data``: exit codes, JSON for machines, flags made of the settings."""

import json

import pytest

from agrl.cli import main
from agrl.data.files import read_examples, write_examples
from agrl.relevance.records import Example, Product

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


def write(path, *queries, segment="plain"):
    rows = [
        Example(f"{n}", query, Product("[/red] :cup: title"), 4, segment=segment) for n, query in enumerate(queries)
    ]
    return str(write_examples(path, rows))


def test_validate_reports_queries_that_files_have_in_common_and_passes(tmp_path, capsys):
    train = write(tmp_path / "train.parquet", "Red cup", "tent", "sofa")
    test = write(tmp_path / "test.jsonl", "red  cup", "lamp")
    other = write(tmp_path / "other.jsonl", "phone")
    assert main(["data", "validate", test, train, other]) == 0
    out = capsys.readouterr().out
    assert f"possible leak: {test} and {train} have 1 query text in common ('red  cup'): 1 of 2 rows of {test}" in out
    assert out.count("leak") == 1
    assert main(["data", "validate", test, train, other, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["valid"] and [(leak["trained"], leak["held_out"], leak["rows"]) for leak in found["leaks"]] == [
        (train, test, 1)
    ]
    assert main(["data", "validate", train, other]) == 0
    assert "leak" not in capsys.readouterr().out


def test_validate_says_what_is_passed_over(tmp_path, capsys):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"id": "1", "query": "q", "product": {"title": "t"}, "tier": 4, "Unnamed: 0": 7}) + "\n")
    assert main(["data", "validate", str(path)]) == 0
    line = "column Unnamed: 0 is the index of a table: passed over"
    assert f"{path}: {line}\n{path}: ok" in capsys.readouterr().out
    assert main(["data", "validate", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["notes"] == {str(path): [line]}


def test_text_of_the_data_and_of_paths_is_printed_as_it_is(tmp_path, capsys):
    path = write(tmp_path / "a[1] :cup:.parquet", "[/bold] q", segment="[/red] :cup:")
    assert main(["data", "stats", path]) == 0
    out = capsys.readouterr().out.replace("\n", "")  # a long path is broken over lines
    assert "[1] :cup:.parquet" in out and "segments: [/red] :cup: 1" in out
    assert main(["data", "make", "--out", str(tmp_path / "[/b] :cup:"), *SMALL]) == 0
    assert "[/b] :cup:/seed.parquet: 44 rows" in capsys.readouterr().out
    path = tmp_path / "[/b].jsonl"
    path.write_text(json.dumps({"[/b]": 1, "\ud800": 2}) + "\n")
    assert main(["data", "validate", str(path)]) == 1
    out = capsys.readouterr().out
    assert f"{path}: row 1, field [/b]: unknown field" in out and r"field '\ud800': unknown field" in out


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
