"""A small model whose tokenizer has seen the prompts and responses of an examples file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from agrl.data.files import read_examples
from agrl.errors import ModelError
from agrl.models.build import TinyShape, make_tiny_model
from agrl.relevance.hints import max_hint_level, reference_judgement
from agrl.relevance.prompt import render_prompt
from agrl.relevance.records import Example, Order
from agrl.relevance.response import render_response
from agrl.relevance.rulebook import RuleBook, load_rulebook


def tiny_model(
    out: Path, data: str | Path, rulebook: str, style: str, shape: TinyShape | None = None, seed: int = 0
) -> dict[str, int]:
    """Write the model; returns its ``parameters`` and ``vocabulary``. Raises DataError, RuleBookError or ModelError."""
    shape = shape or TinyShape()
    head = shape.head_size or shape.hidden_size / shape.heads
    if head % 32:
        raise ModelError(
            f"a hidden size of {shape.hidden_size} over {shape.heads} heads gives heads of {head:g}, which vLLM cannot "
            "serve on the CPU",
            hint="make the hidden size a multiple of 32 times the number of heads",
        )
    book = load_rulebook(rulebook)
    return make_tiny_model(Path(out), task_texts(book, read_examples(data), style), shape, seed)


def task_texts(book: RuleBook, examples: list[Example], style: str) -> Iterator[str]:
    """Every prompt (with its fullest hint) and every response that can be rendered."""
    order = Order.think_then_respond
    for example in examples:
        messages = render_prompt(book, example, order, style, max_hint_level(book, example))
        yield "\n".join(part for part in (messages.system, messages.user) if part) + "\n"
        judgement = example.reference or reference_judgement(book, example, complete=True)
        if judgement is not None:
            yield render_response(book, judgement, order)
