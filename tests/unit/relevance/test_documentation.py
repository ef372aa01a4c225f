"""The examples of docs/rulebook.md work as they stand."""

import re
from pathlib import Path

from agrl.relevance.parse import REASONS
from agrl.relevance.prompt import render_prompt
from agrl.relevance.records import Order
from agrl.relevance.rulebook import load_rulebook, read_rulebook
from tests.unit.relevance.strategies import make_example

PAGE = (Path(__file__).parents[3] / "docs" / "rulebook.md").read_text(encoding="utf-8")


def test_the_worked_example_is_a_rule_book():
    _, criteria, decisions, reward, hints = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    source = load_rulebook("relevance").source
    source = source.replace("\n# Verdicts -> tier.", criteria[criteria.index("  diet:") :] + "\n# Verdicts -> tier.")
    source = re.sub(r"decisions:\n(  - .*\n)+", decisions, source)
    source = re.sub(r"reward:\n.*?gates: \[\]\n", reward, source, flags=re.DOTALL)
    source = re.sub(r"  levels: .*\n", hints.split("\n", 1)[1], source)
    book = read_rulebook(source)
    assert len(book.table) == 4 * 3 * 2
    assert book.decide({"category": "same", "attributes": "met", "diet": "no"}) == 1
    assert book.reward.gates[0].requires == "diet"
    assert "Diet: <yes | no>" in render_prompt(book, make_example(), Order.think_then_respond).system


def test_the_python_example():
    scope = {}
    exec(re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)[1], scope)
    assert scope["score"].total == 1.0 and scope["score"].sound


def test_every_reason_is_explained():
    assert all(f"| `{reason}` |" in PAGE for reason in REASONS)
