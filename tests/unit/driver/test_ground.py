"""A round of grounding: who is asked with which hint, what is kept, and why the rest gives nothing."""

from collections import Counter
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from agrl.config.compose import load_config
from agrl.data.files import read_examples, write_examples
from agrl.driver.experiments.ground import FILE, make_round
from agrl.errors import ConfigError, DataError
from agrl.relevance.records import Example, Product
from agrl.report.plain import PlainConsole
from tests.unit.driver.test_guide import BOOK, GOLD, FakeEncoder, FakeRollouts

PAIRS = [Example(f"e{i}", "grinder", Product("a red kettle"), tier=1, verdicts=GOLD) for i in range(40)]


class Encoder(FakeEncoder):
    """Prompts of pair e0 are too long."""

    book, task = BOOK, load_config(["experiment=agrl_tiny", "model.path=m"]).task

    def fits(self, example, hinted):
        return example.id != "e0"


def run(tmp_path, solved_at, pool=PAIRS, **words):
    given = [f"{key.replace('__', '.')}={value}" for key, value in words.items()]
    config = load_config(["experiment=agrl_tiny", "model.path=m", *given])
    s = SimpleNamespace(config=config, book=BOOK, encoder=Encoder(), rollouts=FakeRollouts(solved_at), pool=pool)
    console = PlainConsole(open("/dev/null", "w"))  # noqa: SIM115
    return SimpleNamespace(s=s, folder=SimpleNamespace(path=tmp_path), console=console, clock=lambda _: nullcontext())


def test_what_the_reading_supports_is_kept_with_gold_after_it(tmp_path):
    found = make_round(run(tmp_path, solved_at=0), 0)
    assert (found.asked, len(found.examples), found.labelled, found.guided) == (40, 39, 39, 0)
    assert found.left_out == {"longer than task.max_prompt_tokens": 1}
    assert {e.reference.tier for e in found.examples} == {1} and {e.hint_level for e in found.examples} == {0}
    assert read_examples(tmp_path / FILE.format(1), labelled=False) == found.examples


def test_a_reading_is_sound_whatever_was_concluded_from_it(tmp_path):
    """The wrong answers of the stand-in read "grinder" and "kettle" rightly: gold follows from that."""
    assert make_round(run(tmp_path, solved_at=9), 0).guided == 0


def test_the_least_hint_that_gives_a_sound_reading_is_taken(tmp_path):
    """Gold says the same kind, which no reading of "grinder" and "kettle" supports: every level is tried, once."""
    pool = [Example(e.id, e.query, e.product, 4, {"category": "same", "attributes": "met"}) for e in PAIRS]
    tried = run(tmp_path, 0, pool)
    with pytest.raises(DataError, match=r"round 1 gave 0 references from 40 pairs \(39 no reading supports"):
        make_round(tried, 0)
    assert Counter(tried.s.rollouts.asked) == dict.fromkeys(range(4), 39)
    unguided = run(tmp_path, 0, pool, ground__hints="false")
    with pytest.raises(DataError):
        make_round(unguided, 0)
    assert set(unguided.s.rollouts.asked) == {0}


def test_pairs_without_labels_are_read_from_the_second_round_on(tmp_path):
    others = [Example(f"u{i}", e.query, e.product, None) for i, e in enumerate(PAIRS)]
    file = write_examples(tmp_path / "others.parquet", others)
    first, second = (make_round(run(tmp_path, 0, data__unlabelled=file), number) for number in (0, 1))
    assert (first.asked, second.asked) == (40, 80)
    assert len(second.examples) - second.labelled == 40
    assert {(e.tier, e.reference.tier) for e in second.examples if e.id.startswith("u")} == {(None, 1)}
    assert second.counts["kept"] == 79 and "79 references from 80 pairs" in str(second)


def test_an_id_stands_in_one_of_the_files_only(tmp_path):
    file = write_examples(tmp_path / "others.parquet", [Example("e3", "grinder", Product("kettle"), None)])
    with pytest.raises(DataError, match=r"the id .e3. stands in"):
        make_round(run(tmp_path, 0, data__unlabelled=file), 1)


def test_there_is_gold_to_begin_with():
    with pytest.raises(ConfigError, match=r"ground\.gold=none"):
        load_config(["experiment=agrl_tiny", "model.path=m", "ground.gold=none"])
