"""Text on the command line is text: the folder that is named is the folder that is used, or an error says how."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from agrl.config.compose import load_config, resumed_config, to_yaml
from agrl.config.keys import TEXTS, all_keys, kind_of
from agrl.config.words import setting
from agrl.errors import ConfigError

TINY = ["experiment=agrl_tiny"]
ODD = [
    "20261126_1200",
    "runs/20261126_1200",
    "1e5",
    "007",
    "0x1F",
    "1_000",
    "12:30",
    "2026-11-26",
    ".5",
    "nan",
    "true",
    "off",
    "null",
    "~",
    "[a, b]",
    "{a: b}",
    "a [v2]",
    "a, {x}",
    "#x",
    "a #b",
    "it's",
    '"',
    "$HOME",
    "${run}",
    "${",
    "a\\${b}",
    "seed=1,lr=2",
    "a,b",
    "a:b",
    "back\\slash\\",
    " lead",
    "trail ",
    "größe",
    "日本",
    "-x",
    "+x",
    "~x",
    "???",
    "choice(a)",
    "a\nb",
    "\x1b[1m",
    "agrl_text_0_",
]
text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
set_name = text.filter(lambda name: "/" not in name)
quiet = settings(max_examples=15, deadline=None)


def read_back(config, folder):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(to_yaml(config), encoding="utf-8")
    return resumed_config(folder)


def test_texts_are_taken_as_they_stand():
    words = [f"data.evaluation.set{i}={name}" for i, name in enumerate(ODD)]
    assert load_config([*TINY, "~data.evaluation", *words]).data.evaluation == {
        f"set{i}": name for i, name in enumerate(ODD)
    }


@pytest.mark.parametrize("name", ["20261126_1200", "null", "a [v2], {x}: ${run} = #1", "größe"])
def test_the_folder_that_is_named_is_the_folder_that_is_used(name):
    config = load_config([*TINY, f"run={name}", f"model.path={name}"])
    assert (config.run, config.model.path) == (name, name)


def test_every_key_that_holds_text_is_taken_as_it_stands():
    free = [key for key in all_keys() if kind_of(key) in TEXTS and not key.endswith((".schedule", ".dtype"))]
    assert {"run", "model.path", "data.seed", "data.train", "task.rulebook", "ray.address"} <= {*free}
    config = load_config([*TINY, *(f"{key}=20261126_1200" for key in free)])
    assert {OmegaConf.select(OmegaConf.structured(config), key) for key in free} == {"20261126_1200"}


@pytest.mark.parametrize("name", ["20261126_1200", "runs/1e5", "a [v2], {x}: ${run} = #1", "größe"])
def test_a_run_in_a_folder_of_any_name_is_found_again(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sets = {odd.replace("/", "-"): odd for odd in ODD}
    config = load_config([*TINY, setting("run", name), setting("data.evaluation", sets)])
    assert (config.run, config.data.evaluation) == (name, sets)
    assert read_back(config, Path(name)) == config


@quiet
@given(text, set_name)
def test_any_text_comes_through_as_itself_when_quoted(name, set_name):
    config = load_config([*TINY, setting("run", name), setting("data.evaluation", {set_name: name})])
    assert (config.run, config.data.evaluation) == (name, {set_name: name})


@quiet
@given(text)
def test_any_text_comes_through_unless_it_is_quoted(name):
    if name[0] in "'\"" or name.strip()[:1] in "'\"":
        return
    assert load_config([*TINY, f"run={name}"]).run == name


@quiet
@given(text, set_name)
def test_what_is_saved_is_read_back(tmp_path_factory, name, other):
    words = [setting("model.path", name), setting("data.seed", other), setting("data.evaluation", {other: name})]
    folder = tmp_path_factory.mktemp("run")
    config = load_config([*TINY, setting("run", folder), *words])
    assert read_back(config, folder) == config
    found = yaml.safe_load(to_yaml(config))
    assert (found["model"]["path"], found["data"]["seed"]) == (name, other)


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        ("'a [v2]'", "a [v2]"),
        ('"a b"', "a b"),
        (r"'it\'s'", "it's"),
        (r"'a\\'", "a\\"),
        (r"'a\b'", r"a\b"),
        ("'null'", "null"),
        ("'a' b'", "'a' b'"),
        ("it's", "it's"),
    ],
)
def test_quotes_round_the_whole_value_are_taken_off_as_hydra_does(value, meant):
    assert load_config([*TINY, f"run={value}"]).run == meant


def test_null_is_nothing_only_where_nothing_may_stand():
    config = load_config([*TINY, "data.seed=null", "run=null"])
    assert config.data.seed is None and config.run == "null"
    assert load_config([*TINY, "data.seed='null'"]).data.seed == "null"


@pytest.mark.parametrize(
    ("word", "sets"),
    [
        ("data.evaluation={mine: 20261126_1200, 2024: größe/[v2].parquet}", {"mine": "20261126_1200"}),
        ("data.evaluation={a:x.parquet,b:007}", {"a": "x.parquet", "b": "007"}),
        ("data.evaluation={'x, y': 'a, {b}: c'}", {"x, y": "a, {b}: c"}),
        ("+data.evaluation={mine: 1e5}", {"mine": "1e5", "balanced": "data/catalogue/balanced.parquet"}),
        ("+data.evaluation.größe=1e5", {"größe": "1e5", "balanced": "data/catalogue/balanced.parquet"}),
        ("data.evaluation.v1.2=f", {"v1.2": "f"}),
        ("++data.evaluation.wild=f", {"wild": "f"}),
    ],
)
def test_files_by_name_are_texts_too(word, sets):
    found = load_config([*TINY, word]).data.evaluation
    assert sets.items() <= found.items()
    assert word.startswith("data.evaluation={") is ("balanced" not in found), "without + the mapping is replaced"


@pytest.mark.parametrize(
    ("words", "named", "advice"),
    [
        (["run="], "run= has no value", "give one"),
        (["run='a\udcff'"], r"a\xff is not UTF-8", "rename"),
        (["trainer.steps=größe"], "trainer.steps=größe: the value of trainer.steps cannot", "quotes"),
        (["data={seed: größe}"], "data={seed: größe}: the value of data cannot be read", "quotes"),
        (["data={seed: 20261126_1200}"], "data.seed: 202611261200 is a number where text is expected", "in quotes"),
        (["trainer.steps=1,2"], "trainer.steps=1,2", "several runs"),
        (["runs/agrl"], "'runs/agrl' is not a setting", "key=value"),
        (["trainer.stepz=größe"], "trainer.stepz", "did you mean trainer.steps?"),
        (["data=3"], "data=3: data is a section", "data.NAME=VALUE"),
        (["data.evaluation=x.parquet"], "data.evaluation=x.parquet: expected {NAME: FILE", "data.evaluation.NAME=FILE"),
        (["data.evaluation={a: b, c}"], "expected {NAME: FILE", "goes in quotes"),
        (["~data.evaluation.tame"], "data.evaluation.tame", ""),
        (["~data.evaluation.größe"], "data.evaluation.größe", ""),
        (["~data.evaluation.wild=x"], "needs no value", "~data.evaluation.wild"),
        (["loss=größe"], "loss=größe: there is no conf/loss/größe.yaml", "dapo, decoupled, dr_grpo, grpo, gspo, rloo"),
        (["ray"], "ray: it names none", "cluster, inline, local"),
    ],
)
def test_what_cannot_be_read_is_refused_by_its_word_and_says_what_to_write(words, named, advice):
    with pytest.raises(ConfigError) as refused:
        load_config([*TINY, *words])
    assert named in str(refused.value) and advice in refused.value.hint
    assert "agrl_text" not in str(refused.value)


def test_a_number_in_a_file_where_text_belongs_is_refused(tmp_path):
    (tmp_path / "config.yaml").write_text("model: {path: 20261126_1200}\n")
    with pytest.raises(ConfigError, match=r"model\.path: 202611261200 is a number"):
        resumed_config(tmp_path)
    (tmp_path / "config.yaml").write_text("model: {path: m}\ndata: {evaluation: {2024: f}}\n")
    with pytest.raises(ConfigError, match="2024 is a number where a name"):
        resumed_config(tmp_path)


@pytest.mark.parametrize("content", [b"- a\n", b"{a: ", b"run: \xff\n", b""])
def test_a_broken_saved_configuration_is_named(tmp_path, content):
    (tmp_path / "config.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"config\.yaml"):
        resumed_config(tmp_path)
