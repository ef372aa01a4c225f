"""The synthetic catalogue: gold is exact, held-out sets are held out, the teacher is wrong as told."""

import json
from collections import Counter
from dataclasses import replace
from random import Random

import pytest

from agrl.data.catalogue.build import make_catalogue
from agrl.data.catalogue.products import ProductMaker
from agrl.data.catalogue.queries import KIND, SEGMENTS, QueryMaker
from agrl.data.catalogue.spec import CatalogueSpec, TeacherErrors
from agrl.data.catalogue.taxonomy import load_taxonomy
from agrl.data.catalogue.teacher import TEACHER_TABLE, Teacher, check_rulebook, true_judgement
from agrl.data.files import read_examples, validate_file
from agrl.data.stats import describe
from agrl.errors import DataError
from agrl.relevance.hints import reference_judgement
from agrl.relevance.parse import parse
from agrl.relevance.reading import reading_supports
from agrl.relevance.records import Order
from agrl.relevance.response import render_response
from agrl.relevance.rulebook import load_rulebook

BOOK = load_rulebook("relevance")
SHOP = load_taxonomy()
SMALL = CatalogueSpec(seed=3, seed_rows=800, pool_rows=600, balanced_rows=176, wild_rows=100)
FILES = ("seed", "train", "balanced", "wild")
NEVER = TeacherErrors(**dict.fromkeys(vars(TeacherErrors()), 0.0))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("catalogue")
    counts = make_catalogue(folder, SMALL)
    return folder, counts, {name: read_examples(folder / f"{name}.parquet") for name in FILES}


def pairs(seed=0, each=60):
    """Random query-product structures of every segment and relation."""
    rng = Random(seed)
    queries, products = QueryMaker(SHOP, rng), ProductMaker(SHOP, rng)
    for segment in SEGMENTS:
        for _ in range(each):
            wanted = queries.draw(segment)
            relation = rng.choice(("same", "substitute", "accessory", "unrelated"))
            kind = products.related(wanted, relation) or products.related(wanted, "same")
            yield wanted, products.item(kind, wanted.needs, rng.random()), products


def test_the_taxonomy_has_the_shape_of_a_shop():
    assert len(SHOP.kinds) == 48
    assert len(SHOP.brands) == 8
    assert all(SHOP.accessories_of(kind.host) for kind in SHOP.accessories)
    assert SHOP.relation("phone", "tablet") == SHOP.relation("tablet", "phone") == "substitute"
    assert SHOP.relation("phone", "phone case") == "accessory"
    assert SHOP.relation("phone case", "phone") == SHOP.relation("tablet", "phone case") == "unrelated"


def test_true_judgements_agree_with_what_their_readings_give():
    for wanted, item, _ in pairs():
        judgement = true_judgement(BOOK, SHOP, wanted, item)
        assert reading_supports(BOOK, judgement), (wanted, item, judgement)
        assert judgement.tier == BOOK.decide(judgement.verdicts)


def test_a_changed_verdict_no_longer_agrees_with_the_readings():
    for wanted, item, _ in pairs(each=10):
        truth = true_judgement(BOOK, SHOP, wanted, item)
        for verdict in BOOK.criteria["attributes"].verdicts.keys() - {truth.verdicts["attributes"]}:
            wrong = type(truth)(truth.tier, {**truth.verdicts, "attributes": verdict}, truth.readings)
            assert not reading_supports(BOOK, wrong)


def test_gold_follows_from_the_structure_in_known_cases():
    known = {
        ("phone", "phone"): "same",
        ("boots", "sneakers"): "substitute",
        ("tent", "tent pegs"): "accessory",
        ("tent", "piano"): "unrelated",
    }
    assert {pair: SHOP.relation(*pair) for pair in known} == known
    for wanted, item, _ in pairs():
        for need in wanted.needs:
            fact = item.facts.get(need.name)
            if need.side == "under":
                assert need.met_by(item.facts) == (fact is not None and int(fact) < int(need.value))
            elif need.avoid:
                assert need.met_by(item.facts) == (fact != need.value)
        if wanted.segment == "alternative":
            avoided = next(need.value for need in wanted.needs if need.name == KIND)
            assert SHOP.kinds[wanted.kind].substitute == avoided
            if item.kind == avoided:
                assert wanted.attributes_verdict(item.facts) == "unmet"


def test_a_listing_tells_every_fact_that_its_product_has():
    for _, item, products in pairs(each=20):
        listing = products.listing(item)
        for name in SHOP.kinds[item.kind].attributes:
            if name in item.facts:
                words = (item.facts[name], *SHOP.attributes[name][item.facts[name]])
                assert listing.attributes.get(name) == item.facts[name] or any(w in listing.title for w in words)
        for name in SHOP.kinds[item.kind].numbers:
            assert listing.attributes[name].split()[0] == item.facts[name]


def test_files_have_their_sizes_and_are_valid_under_the_rule_book(made):
    folder, counts, _ = made
    assert counts == {"seed": 800, "train": 600, "balanced": 176, "wild": 100}
    assert {name: validate_file(folder / f"{name}.parquet", BOOK) for name in FILES} == {name: [] for name in FILES}
    assert json.loads((folder / "catalogue.json").read_text())["teacher"]["negation"] == SMALL.teacher.negation


def test_gold_of_every_row_is_complete_and_decides_its_tier(made):
    for examples in made[2].values():
        assert all(example.tier == BOOK.decide(example.verdicts) for example in examples)


def test_nothing_held_out_is_in_training(made):
    examples = made[2]
    held_out = examples["balanced"] + examples["wild"]
    trained = examples["seed"] + examples["train"]
    assert not {(e.query, e.product.title) for e in held_out} & {(e.query, e.product.title) for e in trained}
    assert not {repr(e.product) for e in held_out} & {repr(e.product) for e in trained}
    together = held_out + trained
    assert len({(e.query, e.product.title) for e in together}) == len(together)


def test_the_balanced_set_has_every_segment_with_every_tier_alike(made):
    cells = Counter((e.segment, e.tier) for e in made[2]["balanced"])
    assert cells == dict.fromkeys(((s, t) for s in SEGMENTS for t in (4, 3, 2, 1)), 4)


def test_the_seed_set_and_the_pool_are_posed_as_documented(made):
    seed, pool = describe(made[2]["seed"]), describe(made[2]["train"])
    assert seed["reference"]["share"] == 1.0
    assert pool["reference"]["rows"] == 0
    assert sum(n for level, n in seed["hint_levels"].items() if level != "0") == 160
    assert seed["tiers"]["4"] > 0.4 * 800
    assert all(abs(n - 150) < 40 for n in pool["tiers"].values())
    hard, easy = ("negation", "alternative", "implicit"), ("plain", "brand", "attribute")
    assert sum(pool["segments"][s] for s in hard) > sum(pool["segments"][s] for s in easy) > 0
    assert sum(seed["segments"][s] for s in hard) < sum(seed["segments"][s] for s in easy)


def test_hinted_rows_reason_rightly_and_others_as_the_teacher_does(made):
    seed = made[2]["seed"]
    hinted = [e for e in seed if e.hint_level]
    assert {e.hint_level for e in hinted} == {1, 2, 3}
    assert all(e.reference.tier == e.tier and e.reference.verdicts == e.verdicts for e in hinted)
    assert all(reading_supports(BOOK, e.reference) for e in hinted)
    assert all(reference_judgement(BOOK, e) == e.reference for e in hinted)
    right = describe(seed)["reference"]["tier_right_by_tier"]
    assert right["4"] > 0.9
    assert right["3"] < 0.15
    assert right["2"] < 0.25


@pytest.mark.parametrize("order", [Order.think_then_respond, Order.respond_then_think])
def test_references_render_to_responses_that_parse_back(made, order):
    for example in made[2]["seed"]:
        assert parse(BOOK, render_response(BOOK, example.reference, order), order) == example.reference


def test_controls_are_the_pool_with_the_teachers_and_with_true_reasoning(made, tmp_path):
    counts = make_catalogue(tmp_path, SMALL, controls=True)
    assert counts == made[1] | {"train_teacher": 600, "train_true": 600}
    for name in FILES:
        assert (tmp_path / f"{name}.parquet").read_bytes() == (made[0] / f"{name}.parquet").read_bytes()
    pool = made[2]["train"]
    taught, true = (read_examples(tmp_path / f"{name}.parquet") for name in ("train_teacher", "train_true"))
    assert [replace(e, reference=None) for e in taught] == [replace(e, reference=None) for e in true] == pool
    assert all(e.reference.tier == e.tier and e.reference.verdicts == e.verdicts for e in true)
    assert 0.1 < sum(e.reference.tier == e.tier for e in taught) / len(taught) < 0.6


def test_a_teacher_that_never_errs_judges_truly():
    teacher = Teacher(BOOK, SHOP, NEVER, Random(0))
    assert all(teacher.judge(w, i) == true_judgement(BOOK, SHOP, w, i) for w, i, _ in pairs())


@pytest.mark.parametrize("mistake", [name for name in vars(TeacherErrors())])
def test_each_mistake_shows_where_there_is_occasion_for_it_and_only_there(mistake):
    teacher = Teacher(BOOK, SHOP, TeacherErrors(**{**vars(NEVER), mistake: 1.0}), Random(0))
    seen = 0
    for wanted, item, _ in pairs():
        truth, said = true_judgement(BOOK, SHOP, wanted, item), teacher.judge(wanted, item)
        category, attributes = truth.verdicts["category"], truth.verdicts["attributes"]
        belong = "accessory" in (category, SHOP.relation(item.kind, wanted.kind))
        occasion, effect = {
            "negation": (
                any(need.avoid and need.name != KIND for need in wanted.needs),
                said.readings["query"].count("not ") < truth.readings["query"].count("not "),
            ),
            "alternative": (wanted.segment == "alternative", "not " not in said.readings["query"]),
            "implicit": (
                any(need.implicit for need in wanted.needs),
                said.readings["query"].count(";") < truth.readings["query"].count(";"),
            ),
            "accessory": (belong, said.verdicts["category"] == "same"),
            "partial": (attributes == "partial", said.verdicts["attributes"] == "met"),
            "substitute": (category == "substitute", said.verdicts["category"] == "unrelated"),
            "table": (True, said.tier == TEACHER_TABLE[category, attributes]),
        }[mistake]
        assert effect if occasion else said == truth
        seen += occasion
    assert seen > 10


def test_the_same_spec_gives_the_same_files_and_another_seed_others(tmp_path):
    spec = CatalogueSpec(seed_rows=60, pool_rows=40, balanced_rows=44, wild_rows=20)
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        make_catalogue(tmp_path / folder, CatalogueSpec(**{**vars(spec), "seed": seed}))
    a, b, c = ([read_examples(tmp_path / folder / f"{name}.parquet") for name in FILES] for folder in "abc")
    assert a == b
    assert all(first != other for first, other in zip(a, c, strict=True))


def test_the_vocabulary_is_small_enough_for_a_tiny_model(made):
    text = " ".join(
        f"{e.query} {e.product.title} {e.product.brand} {e.product.attributes}" for f in made[2].values() for e in f
    )
    words = {word.strip("{}',:").lower() for word in text.split()}
    assert 400 < len(words) < 620
    references = [render_response(BOOK, e.reference, Order.think_then_respond) for e in made[2]["seed"]]
    assert max(len(reference.split()) for reference in references) <= 32


@pytest.mark.parametrize("change", [{"seed_rows": 0}, {"hinted_share": 1.5}])
def test_impossible_settings_are_refused_by_name(change):
    with pytest.raises(DataError, match=next(iter(change))):
        CatalogueSpec(**change)
    with pytest.raises(DataError, match="negation"):
        TeacherErrors(negation=-0.1)


def test_a_rule_book_that_judges_other_things_is_refused():
    with pytest.raises(DataError, match="rule book esci"):
        check_rulebook(load_rulebook("esci"))
