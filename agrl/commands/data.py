"""``agrl data``: make the bundled catalogue, import ESCI, validate and describe examples files."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import fields
from itertools import combinations
from pathlib import Path
from typing import Any

from agrl.data.catalogue.spec import CatalogueSpec, TeacherErrors
from agrl.errors import DataError

MAKE_TEXT = """\
Build the bundled synthetic catalogue: 48 kinds of product in 8 departments, 11 kinds of query, exact gold.

  seed.parquet      for `agrl sft`: natural traffic; the reasoning is a simulated teacher's that does not know the
                    shop's rules, and is often wrong; some rows show a hint and reason rightly from it
  train.parquet     for `agrl train`: hard queries over-weighted, tiers balanced; gold verdicts, no reasoning
  balanced.parquet  held out: every kind of query with every tier
  wild.parquet      held out: natural traffic

--controls adds the rows of train.parquet with the teacher's reasoning (train_teacher.parquet) and with true reasoning
(train_true.parquet), to be compared with.
The same flags give the same files. docs/data.md explains the schema and why the data is posed like this.
"""
MAKE_EXAMPLES = """\
examples:
  agrl data make --out data/catalogue
  agrl data make --out data/small --seed-rows 2000 --pool-rows 1000
  agrl data make --out data/good-teacher --teacher-negation 0 --teacher-table 0
"""
ESCI_TEXT = """\
Read the official layout of the Amazon Shopping Queries data set (ESCI) and write one examples file a split.
DIR holds shopping_queries_dataset_examples.parquet and shopping_queries_dataset_products.parquet.
E, S, C, I become the tiers 4, 3, 2, 1; gold verdicts are those that the label alone implies under the rule book
`esci`: E says same and met, C complement, I unrelated, S nothing. What is not sound (no query, no title, a pair judged
twice with different labels, ...) is left out and listed by file, reason and row; rows count from 1.
"""
SHOWN = 20  # problems of a file, and lines of a kind, that are printed

VALIDATE_TEXT = """\
Check an examples file (.parquet or .jsonl) and list everything that is wrong by row and field; rows count from 1.
With --rulebook also the names of criteria and verdicts, and gold tiers that contradict the decision table.
Of several files it also says which have query texts in common: what a model was trained on, evaluation should not ask.
The exit code is 1 when something is wrong; a common query is no error.
"""


def register(subparsers: Any) -> None:
    """Adds ``agrl data`` and its sub-commands."""
    parser = subparsers.add_parser(
        "data",
        help="make, import, validate and describe data",
        description="Make, import, validate and describe examples files.",
    )
    commands = parser.add_subparsers(dest="data_command", metavar="COMMAND", title="commands", required=True)
    _register_make(commands)
    _add(commands, "validate", "name file, row and field of whatever is wrong", VALIDATE_TEXT, _validate, files=True)
    validate = commands.choices["validate"]
    validate.add_argument("--rulebook", metavar="BOOK", help="a name, or the path of a YAML file")
    validate.add_argument("--unlabelled", action="store_true", help="rows need no tier: pairs that nobody has judged")
    _add(commands, "stats", "what is in a file", "Count tiers, segments, verdicts and references.", _stats, files=True)
    esci = _add(commands, "import-esci", "import the Amazon Shopping Queries data set", ESCI_TEXT, _import_esci)
    esci.add_argument("dir", metavar="DIR", type=Path, help="folder with the two official Parquet files")
    esci.add_argument("--out", metavar="FOLDER", type=Path, required=True, help="where the files go")
    esci.add_argument("--locale", default="us", help="marketplace to keep: us, es, jp or all (default: us)")
    esci.add_argument(
        "--seed-share",
        type=float,
        default=0.5,
        metavar="P",
        help="share of the training queries that go to seed.parquet, for the supervised start; the others are the RL "
        "pool, train.parquet (default: %(default)s)",
    )
    esci.add_argument("--version", choices=("small", "large"), default="", help="rows of this version only")


def _register_make(commands: Any) -> None:
    make = _add(commands, "make", "build the bundled synthetic catalogue", MAKE_TEXT, _make)
    make.epilog = MAKE_EXAMPLES
    make.add_argument("--out", metavar="FOLDER", type=Path, required=True, help="where the files go")
    make.add_argument("--controls", action="store_true", help="also the RL pool with reasoning, for controls")
    _add_settings(make, CatalogueSpec)
    _add_settings(
        make.add_argument_group("the teacher's error rates, from 0 (never) to 1 (always)"), TeacherErrors, "teacher_"
    )


def _add_settings(parser: Any, spec: type, prefix: str = "") -> None:
    """A flag for every plain field of a settings dataclass."""
    for setting in fields(spec):
        if "help" in setting.metadata:
            parser.add_argument(
                f"--{prefix}{setting.name}".replace("_", "-"),
                type=type(setting.default),
                metavar={int: "N", float: "P"}.get(type(setting.default), "NAME"),
                default=setting.default,
                help=f"{setting.metadata['help']} (default: {setting.default})",
            )


def _settings(args: argparse.Namespace, spec: type, prefix: str = "") -> dict[str, Any]:
    return {s.name: getattr(args, prefix + s.name) for s in fields(spec) if "help" in s.metadata}


def _add(
    commands: Any, name: str, summary: str, text: str, run: Callable[..., int], files: bool = False
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=summary, description=text)
    if files:
        parser.add_argument("files", metavar="FILE", type=Path, nargs="+", help=".parquet or .jsonl")
    parser.add_argument("--json", action="store_true", help="print one JSON object, for machines")
    parser.set_defaults(run_data=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Runs the sub-command; returns the exit code."""
    return args.run_data(args)


def _make(args: argparse.Namespace) -> int:
    from agrl.data.catalogue.build import make_catalogue

    spec = CatalogueSpec(
        **_settings(args, CatalogueSpec), teacher=TeacherErrors(**_settings(args, TeacherErrors, "teacher_"))
    )
    if args.json:
        return _print_json(make_catalogue(args.out, spec, controls=args.controls))
    counts = make_catalogue(args.out, spec, lambda name: print(f"making {name}.parquet"), args.controls)
    for name, rows in counts.items():
        print(f"{args.out / name}.parquet: {rows:,} rows")
    print(f"`agrl data stats {shlex.quote(str(args.out))}/*.parquet` shows what is in them")
    return 0


def _validate(args: argparse.Namespace) -> int:
    from agrl.data.files import check_file
    from agrl.data.leaks import shared_queries
    from agrl.relevance.rulebook import load_rulebook

    book = load_rulebook(args.rulebook) if args.rulebook else None
    checked = {str(path): check_file(path, book, not args.unlabelled) for path in args.files}
    examples = {path: found.examples for path, found in checked.items()}
    by_size = sorted(examples, key=lambda path: -len(examples[path]))  # what is held out is the smaller one, as a rule
    leaks = [leak for a, b in combinations(by_size, 2) for leak in shared_queries({a: examples[a]}, {b: examples[b]})]
    wrong = any(found.problems for found in checked.values())
    if args.json:
        _print_json(
            {
                "valid": not wrong,
                "problems": {path: [vars(p) for p in found.problems] for path, found in checked.items()},
                "notes": {path: found.notes for path, found in checked.items()},
                "leaks": [vars(leak) for leak in leaks],
            }
        )
        return int(wrong)
    for path, found in checked.items():
        _print_lines([f"{path}: {problem}" for problem in found.problems], f"{path}: ")
        for note in found.notes:
            print(f"{path}: {note}")
        count = len(found.problems)
        print(f"{path}: " + (f"{count:,} problem{'s' * (count > 1)}" if count else "ok"))
    _print_lines(leaks)
    if leaks:
        print("(Queries in common matter between a file that is trained on and one that is evaluated on.)")
    return int(wrong)


def _print_lines(lines: Sequence[Any], name: str = "") -> None:
    """The first lines, and how many more there are."""
    for line in lines[:SHOWN]:
        print(line)
    if len(lines) > SHOWN:
        print(f"{name}and {len(lines) - SHOWN:,} more (--json lists all)")


def _stats(args: argparse.Namespace) -> int:
    from agrl.data.files import read_examples
    from agrl.data.stats import describe

    found = {str(path): describe(read_examples(path, labelled=False)) for path in args.files}
    if args.json:
        return _print_json(found)
    for path, stats in found.items():
        _show(path, stats)
    return 0


def _import_esci(args: argparse.Namespace) -> int:
    from agrl.data.esci import import_esci

    if not 0 <= args.seed_share <= 1:
        raise DataError(f"--seed-share={args.seed_share:g} is no share, from 0 to 1")
    locale = "" if args.locale == "all" else args.locale
    found = import_esci(args.dir, args.out, locale, args.version, args.seed_share)
    if args.json:
        left_out = [
            {"file": file, "reason": reason, "rows": rows} for (file, reason), rows in found.left_out.rows.items()
        ]
        return _print_json({**found.splits, "left_out": left_out, "leaks": [vars(leak) for leak in found.leaks]})
    for split, stats in found.splits.items():
        _show(str(args.out / f"{split}.parquet"), stats)
    _print_lines(found.left_out.lines())
    _print_lines(found.leaks)
    return 0


def _print_json(value: Any) -> int:
    print(json.dumps(value, indent=2))
    return 0


def _show(title: str, stats: dict[str, Any]) -> None:
    """Nested counts as an indented list. Names come from data: never markup."""
    from rich.text import Text
    from rich.tree import Tree

    from agrl.report.terminal import console

    def grow(tree: Tree, value: dict[str, Any]) -> Tree:
        for name, part in value.items():
            if isinstance(part, dict) and any(isinstance(inner, dict) for inner in part.values()):
                grow(tree.add(Text(name)), part)
            elif isinstance(part, dict):
                tree.add(Text(f"{name}: " + ", ".join(f"{key} {count}" for key, count in part.items())))
            else:
                tree.add(Text(f"{name}: {part}"))
        return tree

    console().print(grow(Tree(title), stats))
