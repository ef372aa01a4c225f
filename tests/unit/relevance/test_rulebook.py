"""The rule books that ship are sound, and a malformed one is refused by file and key."""

import pickle

import pytest

from agrl.errors import DataError, RuleBookError
from agrl.relevance.records import TIERS
from agrl.relevance.rulebook import load_rulebook, read_rulebook

RELEVANCE = load_rulebook("relevance")


@pytest.mark.parametrize(
    ("category", "tiers"),
    [("same", (4, 3, 2)), ("substitute", (3, 2, 2)), ("accessory", (2, 2, 1)), ("unrelated", (1, 1, 1))],
)
def test_default_decision_table(category, tiers):
    for attributes, tier in zip(("met", "partial", "unmet"), tiers, strict=True):
        assert RELEVANCE.decide({"category": category, "attributes": attributes}) == tier


def test_labels_of_esci_imply_only_what_they_settle():
    book = load_rulebook("esci")
    assert book.implied_verdicts(4) == {"category": "same", "attributes": "met"}
    assert book.implied_verdicts(3) == {}
    assert book.implied_verdicts(2) == {"category": "complement"}
    assert book.implied_verdicts(1) == {"category": "unrelated"}


@pytest.mark.parametrize("name", ["relevance", "esci"])
def test_every_combination_decides_one_tier_and_every_tier_is_reached(name):
    book = load_rulebook(name)
    assert {book.decide(verdicts) for verdicts in book.combinations()} == set(TIERS)
    for tier in TIERS:
        assert all(book.decide(verdicts) == tier for verdicts in book.possible_verdicts(tier))


def test_a_book_survives_pickling_and_its_own_source():
    copy = pickle.loads(pickle.dumps(RELEVANCE))
    assert copy.table == RELEVANCE.table
    assert read_rulebook(copy.source).table == RELEVANCE.table


def test_deciding_on_unknown_verdicts_is_refused():
    with pytest.raises(DataError, match="lack a criterion"):
        RELEVANCE.decide({"category": "same"})
    with pytest.raises(DataError, match="unknown verdict"):
        RELEVANCE.decide({"category": "same", "attributes": "perfect"})


def test_load_by_path(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(RELEVANCE.source.replace("Tier\n", "Grade\n", 1))
    assert load_rulebook(path).tier_label == "Grade"


def test_unknown_name_lists_the_known():
    with pytest.raises(RuleBookError, match="'nope'") as error:
        load_rulebook("nope")
    assert "esci, relevance" in error.value.hint


# (what stands in the default rule book, what replaces it, what the message must name)
SLIPS = [
    ("  - {when: {category: unrelated}, tier: 1}\n", "", "decisions: no rule decides: category unrelated"),
    ("attributes: unmet}, tier: 2}", "attributes: [unmet, met]}, tier: 2}", "decisions: the rules disagree on"),
    ("{category: unrelated}, tier: 1}", "{category: unrelated}, tier: 5}", r"decisions\[8\].tier: 5"),
    ("{category: unrelated}, tier: 1}", "{kind: unrelated}, tier: 1}", r"decisions\[8\].when: .*'kind'"),
    ("{category: unrelated}, tier: 1}", "{category: unrelatd}, tier: 1}", "'unrelatd'"),
    ("{category: unrelated}, tier: 1}", "{category: unrelated}, tear: 1}", r"decisions\[8\].tier: is missing"),
    ("tier: 0.3}", "tier: .nan}", "reward.weights.tier: must be a finite number"),
    ("tier: 0.3}", "tier: 0}", "reward.weights.tier"),
    ("format: 0.1, ", "format: -1, ", "reward.weights: weights must be at least 0"),
    ("consistency: 0.1, ", "", "reward.weights.consistency: is missing"),
    ("consistency: 0.1, ", "consistency: 0.1, speed: 1, ", "reward.weights.speed: is not a known key"),
    ("gates: []", "gates: [{component: tier, requires: speed}]", r"reward.gates\[1\].requires: 'speed'"),
    ("gates: []", "gates: [{component: tier, requires: tier}]", "cannot require itself"),
    ("tier_credit: exact", "tier_credit: half", "reward.tier_credit: 'half'"),
    ("reading: items", "reading: lists", "reading: 'lists'"),
    ("reading: items", "reading: free", "reading_check: needs `reading: items`"),
    ("kind: {criterion: category, same: same}", "kind: {criterion: category, same: alike}", "reading_check.kind.same"),
    ('query: "{query}"', 'query: "{quarry}"', "reading_fallback.query: '{quarry}' is not a template"),
    ("{{ product.title }}", "{{ product.titel }}", "prompts.full: the template fails"),
    ("{% for fact in facts %}", "{% for fact in fax %}", "hints.template: the template fails"),
    ("{{ answer_format }}", "{{ answer_format }", "prompts.full: the template fails"),
    ("levels: [[category], ", "levels: [[categori], ", "hints.levels: names 'categori'"),
    ("tier_label: Tier", "tier_label: Category", "the label 'Category' is used twice"),
    ("tier_label: Tier", "tier_label: 'Tier: '", "tier_label: 'Tier: ' cannot label a line"),
    ("tier_label: Tier\n", "tier_label: Tier\ntier_lable: Grade\n", "tier_lable: is not a known key"),
    ("tier_label: Tier\n", "tier_label: Tier\ntier_label: Grade\n", "not valid YAML.*there twice"),
    ("      partial: some needs", "      no: some needs", "criteria.attributes.verdicts: the name False is not text"),
    ("  4: {name: Excellent", "  5: {name: Excellent", "tiers: names the tiers"),
    ("name: relevance", "name: [relevance", "not valid YAML"),
]


@pytest.mark.parametrize(("standing", "slip", "message"), SLIPS, ids=[slip[2] for slip in SLIPS])
def test_slips_are_refused_by_file_and_key(standing, slip, message):
    assert standing in RELEVANCE.source
    with pytest.raises(RuleBookError, match=rf"(?s)my.yaml: .*{message}"):
        read_rulebook(RELEVANCE.source.replace(standing, slip, 1), "my.yaml")


@pytest.mark.parametrize("source", ["", "[]", "1", "name: x", "{a: {b: c}}", "? [1]\n: 2"])
def test_what_is_not_a_rule_book_is_refused(source):
    with pytest.raises(RuleBookError, match=r"my\.yaml"):
        read_rulebook(source, "my.yaml")
