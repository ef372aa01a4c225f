"""How many responses one core parses and scores per second.

    python benchmarks/scoring.py [--rulebook relevance] [--responses 20000] [--seconds 3] [--json]

A fixed mix of good, wrong, malformed and cut-off responses, in every order; the best of the repeats that fit in the
time.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import time

from agrl.relevance.parse import parse
from agrl.relevance.records import TIERS, Example, Judgement, Order, Product, RewardMode
from agrl.relevance.response import render_response
from agrl.relevance.reward import Scorer
from agrl.relevance.rulebook import load_rulebook
from agrl.relevance.rules import RuleBook


def make_work(book: RuleBook, order: Order, count: int, seed: int = 0) -> list[tuple[Example, str, str]]:
    """(example, response, finish reason), of which about one in five is malformed."""
    rng = random.Random(seed)
    combinations = list(book.combinations())
    work = []
    for number in range(count):
        gold, stated = rng.choice(combinations), rng.choice(combinations)
        example = Example(str(number), "red grinder", Product("red coffee grinder"), book.decide(gold), gold)
        readings = dict.fromkeys(book.sections, "coffee grinder; red; not electric; weight under 2 kg")
        text = render_response(book, Judgement(rng.choice(TIERS), stated, readings), order)
        damage = rng.random()
        if damage < 0.1:
            text = text[: rng.randrange(len(text))]
        elif damage < 0.2:
            text = text.replace("\n", "\nI think ", 1)
        work.append((example, text, "length" if damage < 0.05 else "stop"))
    return work


def per_second(run, count: int, seconds: float) -> float:
    """The best rate over repeats of ``run``, which handles ``count`` responses."""
    best, end = 0.0, time.perf_counter() + seconds
    while not best or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        best = max(best, count / (time.perf_counter() - start))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rulebook", default="relevance")
    parser.add_argument("--responses", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=3.0, help="time for each measurement")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()

    book = load_rulebook(args.rulebook)
    rates: dict[str, dict[str, float]] = {}
    for order in Order:
        work = make_work(book, order, args.responses)
        scorer = Scorer(book, order, RewardMode.rules)
        rates[order.value] = {
            "parsed": per_second(
                lambda o=order, w=work: [parse(book, text, o) for _, text, _ in w], len(work), args.seconds
            ),
            "parsed_and_scored": per_second(
                lambda s=scorer, w=work: [s.score(*item) for item in w], len(work), args.seconds
            ),
        }
    result = {"rulebook": book.name, "python": platform.python_version(), "responses_per_second_per_core": rates}
    if args.json:
        print(json.dumps(result))
        return
    print(f"rule book {book.name}, Python {result['python']}, one core, responses per second:")
    for order, rate in rates.items():
        print(f"  {order:20}  parsed {rate['parsed']:>10,.0f}   parsed and scored {rate['parsed_and_scored']:>10,.0f}")


if __name__ == "__main__":
    main()
