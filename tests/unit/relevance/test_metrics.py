"""Metrics agree with scikit-learn, and count what does not parse as wrong."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from agrl.errors import DataError
from agrl.relevance.metrics import Prediction, evaluate, shares
from agrl.relevance.records import TIERS, Judgement
from tests.unit.relevance.strategies import BOOKS, judgements, make_example

BOOK = BOOKS["relevance"]
READINGS = {"query": "q", "product": "p"}


def predict(gold, stated, category="same", attributes="met", verdicts=None, segment="plain") -> Prediction:
    judgement = stated and Judgement(stated, {"category": category, "attributes": attributes}, READINGS)
    return Prediction(make_example(gold, verdicts, segment=segment), "", judgement or None, "" if stated else "empty")


@given(st.lists(st.tuples(st.sampled_from(TIERS), st.sampled_from(TIERS)), min_size=1, max_size=40))
def test_tier_metrics_equal_scikit_learn(pairs):
    gold, stated = zip(*pairs, strict=True)
    result = evaluate(BOOK, [predict(*pair) for pair in pairs])
    assert result["accuracy"] == pytest.approx(sk.accuracy_score(gold, stated))
    present = sorted(set(gold))
    assert result["macro_f1"] == pytest.approx(
        sk.f1_score(gold, stated, labels=present, average="macro", zero_division=0)
    )
    precision, recall, f1, support = sk.precision_recall_fscore_support(gold, stated, labels=TIERS, zero_division=0)
    for row, tier in enumerate(TIERS):
        assert result["tier_precision"][str(tier)] == pytest.approx(precision[row])
        assert result["tier_recall"][str(tier)] == pytest.approx(recall[row])
        assert result["tier_f1"][str(tier)] == pytest.approx(f1[row])
        assert result["tier_support"][str(tier)] == support[row]
    assert [row[:4] for row in result["confusion"]] == sk.confusion_matrix(gold, stated, labels=TIERS).tolist()


@given(st.lists(st.tuples(st.sampled_from(TIERS), st.sampled_from(TIERS)), min_size=1, max_size=40))
def test_good_and_bad_equal_scikit_learn(pairs):
    gold, stated = ([tier >= 3 for tier in tiers] for tiers in zip(*pairs, strict=True))
    result = evaluate(BOOK, [predict(*pair) for pair in pairs])
    present = sorted(set(gold))
    assert result["good_bad_f1"] == pytest.approx(
        sk.f1_score(gold, stated, labels=present, average="macro", zero_division=0)
    )
    assert result["good_f1"] == pytest.approx(sk.f1_score(gold, stated, zero_division=0))
    assert result["bad_f1"] == pytest.approx(sk.f1_score(gold, stated, pos_label=False, zero_division=0))


@given(st.lists(st.tuples(st.sampled_from(TIERS), st.sampled_from((*TIERS, 0))), min_size=1, max_size=40))
def test_unparsed_is_a_prediction_of_no_tier(pairs):
    gold, stated = zip(*pairs, strict=True)
    result = evaluate(BOOK, [predict(*pair) for pair in pairs])
    present = sorted(set(gold))
    assert result["macro_f1"] == pytest.approx(
        sk.f1_score(gold, stated, labels=present, average="macro", zero_division=0)
    )
    assert result["parse_rate"] == pytest.approx(sum(map(bool, stated)) / len(stated))
    assert sum(row[4] for row in result["confusion"]) == stated.count(0) == sum(result["failures"].values())


def test_verdicts_and_adherence():
    gold = {"category": "same", "attributes": "met"}
    result = evaluate(
        BOOK,
        [
            predict(4, 4, verdicts=gold),  # all right
            predict(4, 4, "substitute", "met", verdicts=gold),  # right tier, wrong verdict, against the table
            predict(4, 3, "substitute", "met", verdicts=gold),  # consistently wrong
            predict(4, 0, verdicts=gold),  # unparsed
            predict(4, 4),  # nothing known but the tier
        ],
    )
    assert result["verdict_accuracy"] == {"category": pytest.approx(1 / 4), "attributes": pytest.approx(3 / 4)}
    assert result["rule_adherence"] == pytest.approx(3 / 5)
    assert result["right_tier_wrong_verdict"] == pytest.approx(1 / 5)
    assert result["accuracy"] == pytest.approx(3 / 5)
    assert result["failures"] == {"empty": 1}


def test_criteria_without_gold_have_no_accuracy():
    assert evaluate(BOOK, [predict(4, 4, verdicts={"category": "same"})])["verdict_accuracy"] == {"category": 1.0}


def test_segments_and_json():
    result = evaluate(BOOK, [predict(4, 4), predict(2, 4, segment="negation"), predict(2, 2, segment="negation")])
    assert {name: part["n"] for name, part in result["segments"].items()} == {"negation": 2, "plain": 1}
    assert result["segments"]["negation"]["accuracy"] == 0.5
    assert json.loads(json.dumps(result)) == result


@given(st.data())
def test_every_share_is_a_share(data):
    stated = data.draw(st.lists(st.none() | judgements(BOOK), min_size=1, max_size=10))
    gold = data.draw(st.lists(judgements(BOOK), min_size=len(stated), max_size=len(stated)))
    rows = [Prediction(make_example(g.tier, g.verdicts), "", s) for g, s in zip(gold, stated, strict=True)]
    result = evaluate(BOOK, rows)
    for name in ("accuracy", "macro_f1", "good_bad_f1", "rule_adherence", "right_tier_wrong_verdict", "parse_rate"):
        assert 0.0 <= result[name] <= 1.0
    assert result["accuracy"] <= result["parse_rate"]


def test_shares_for_curves_are_those_of_the_whole_set_by_tier_and_criterion():
    evaluation = evaluate(BOOKS["relevance"], [Prediction(make_example(4), "", None, "empty")])
    found = shares(evaluation)
    assert found["tier_recall/4"] == evaluation["tier_recall"]["4"] == 0.0
    assert {name.partition("/")[0] for name in found} <= evaluation.keys()
    assert not found.keys() & {"n", "failures", "confusion", "segments"} and all(0 <= v <= 1 for v in found.values())
    assert "rule_adherence" not in shares(evaluation | {"rule_adherence": None})


def test_nothing_to_evaluate_is_an_error():
    with pytest.raises(DataError, match="no predictions"):
        evaluate(BOOK, [])


def test_judgements_of_the_tier_alone_have_no_metrics_of_verdicts():
    alone = [Prediction(make_example(4), "Tier: 4", Judgement(4, {})), Prediction(make_example(2), "", None, "empty")]
    result = evaluate(BOOK, alone)
    assert result["accuracy"] == 0.5 and result["parse_rate"] == 0.5
    assert result["rule_adherence"] is None and result["right_tier_wrong_verdict"] is None
    assert result["verdict_accuracy"] == {}
    assert result["segments"]["plain"]["rule_adherence"] is None
