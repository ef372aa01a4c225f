"""``agrl model``: make a small model for machines without a GPU."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "make a small model with a tokenizer trained on your data"

DESCRIPTION = """\
Write a small, randomly initialised Qwen3 model and a tokenizer trained on the examples' own text.
It knows nothing: give it a cold start with `agrl sft`. For real work bring any Hugging Face causal LM instead
(model.path=FOLDER or hub name).
"""

EXAMPLES = """\
examples:
  agrl model make --data data/catalogue/seed.parquet --out models/tiny
  agrl model make --data data/esci/train.parquet --rulebook esci --out models/esci_tiny --vocabulary 4096
"""


def register(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser("model", help=HELP, description=DESCRIPTION, epilog=EXAMPLES)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", title="actions", required=True)
    make = actions.add_parser("make", help=HELP, description=DESCRIPTION, epilog=EXAMPLES)
    make.add_argument("--data", type=Path, required=True, help="examples whose text the tokenizer is trained on")
    make.add_argument("--out", type=Path, required=True, help="folder to write")
    make.add_argument(
        "--rulebook", default="relevance", help="rule book of prompts and responses (default: %(default)s)"
    )
    make.add_argument("--style", default="brief", help="prompt style of the rule book (default: %(default)s)")
    make.add_argument("--vocabulary", type=int, default=2048, help="at most this many tokens (default: %(default)s)")
    make.add_argument("--hidden", type=int, default=128, help="hidden size (default: %(default)s)")
    make.add_argument("--layers", type=int, default=4, help="layers (default: %(default)s)")
    make.add_argument(
        "--heads", type=int, default=4, help="attention heads; half as many for keys (default: %(default)s)"
    )
    make.add_argument("--positions", type=int, default=2048, help="longest sequence, tokens (default: %(default)s)")
    make.add_argument("--untied", action="store_true", help="an output head of its own, not the embedding")
    make.add_argument("--seed", type=int, default=0)


def run(args: argparse.Namespace) -> int:
    from agrl.driver.experiments.tiny_model import tiny_model
    from agrl.models.build import TinyShape
    from agrl.report.terminal import open_terminal

    console = open_terminal(args.out / "make.log", args.debug)
    shape = TinyShape(
        vocab_size=args.vocabulary,
        hidden_size=args.hidden,
        layers=args.layers,
        heads=args.heads,
        kv_heads=max(1, args.heads // 2),
        intermediate_size=3 * args.hidden,
        max_positions=args.positions,
        tied=not args.untied,
    )
    made = tiny_model(args.out, args.data, args.rulebook, args.style, shape, args.seed)
    console.print(
        f"{args.out}: Qwen3 with {made['parameters']:,} parameters, {made['vocabulary']:,} tokens in its vocabulary"
    )
    return 0
