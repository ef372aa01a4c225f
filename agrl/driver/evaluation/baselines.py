"""Two honest baselines to put beside a trained judge: the commonest tier, and TF-IDF with logistic regression."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from agrl.relevance.metrics import Prediction, evaluate
from agrl.relevance.records import Example, Judgement
from agrl.relevance.rulebook import RuleBook


def baselines(
    book: RuleBook, training: Sequence[Example], sets: dict[str, list[Example]], seed: int = 0
) -> dict[str, dict[str, dict[str, Any]]]:
    """``majority`` and ``tfidf_logistic``, trained on the gold tiers of ``training``: name -> set -> metrics."""
    return {name: baseline(name, book, training, sets, seed) for name in JUDGES}


def baseline(
    name: str, book: RuleBook, training: Sequence[Example], sets: Mapping[str, Sequence[Example]], seed: int = 0
) -> dict[str, dict[str, Any]]:
    """One of them: set -> metrics. They state no verdicts: see ``agrl.relevance.metrics.evaluate``."""
    judge = JUDGES[name](training, seed)
    return {set_name: _metrics(book, examples, judge(examples)) for set_name, examples in sets.items()}


def majority(training: Sequence[Example], seed: int = 0):
    """Always the commonest tier of the training rows."""
    commonest = Counter(example.tier for example in training).most_common(1)[0][0]
    return lambda examples: [commonest] * len(examples)


def tfidf_logistic(training: Sequence[Example], seed: int = 0):
    """Multinomial logistic regression on TF-IDF of the query and of the product, and their cosine similarity."""
    from scipy.sparse import csr_matrix, hstack
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    vectorizer = TfidfVectorizer(sublinear_tf=True, min_df=2, ngram_range=(1, 2))
    vectorizer.fit([text for example in training for text in (example.query, _product(example))])

    def features(examples: Sequence[Example]):
        queries = vectorizer.transform([example.query for example in examples])
        products = vectorizer.transform([_product(example) for example in examples])
        similarity = np.asarray(queries.multiply(products).sum(axis=1))
        return hstack([queries, products, csr_matrix(similarity)], format="csr")

    model = LogisticRegression(max_iter=2000, class_weight="balanced", random_state=seed)
    model.fit(features(training), [example.tier for example in training])
    return lambda examples: model.predict(features(examples)).tolist()


JUDGES = {"majority": majority, "tfidf_logistic": tfidf_logistic}


def _product(example: Example) -> str:
    p = example.product
    return " ".join([p.title, p.brand, p.category, *p.attributes.values()])


def _metrics(book: RuleBook, examples: Sequence[Example], tiers: Sequence[int]) -> dict[str, Any]:
    return evaluate(
        book,
        [Prediction(example, "", Judgement(tier, {})) for example, tier in zip(examples, tiers, strict=True)],
    )
