"""Reads a rule book from YAML and refuses a malformed one by file and key, before anything starts.

The format is explained in docs/rulebook.md; what it becomes in memory is ``agrl.relevance.rules``.
"""

from __future__ import annotations

import math
from importlib.resources import files
from pathlib import Path

import yaml

from agrl.errors import RuleBookError
from agrl.relevance.records import TIERS
from agrl.relevance.rules import (
    CONSISTENCY,
    FORMAT,
    READING,
    TIER,
    Criterion,
    Gate,
    Hints,
    Prompt,
    ReadingCheck,
    RewardSpec,
    Rule,
    RuleBook,
    Section,
    TierText,
    component_names,
    verdict_combinations,
)
from agrl.relevance.wording import check_wording
from agrl.relevance.yaml_node import Node, load_yaml

__all__ = ["RuleBook", "load_rulebook", "read_rulebook"]

_MAX_COMBINATIONS = 100_000


def load_rulebook(name_or_path: str | Path) -> RuleBook:
    """Loads a rule book: a name under ``conf/rulebooks``, or a path to a YAML file.

    Raises RuleBookError naming the file, the key and what is wrong.
    """
    text = str(name_or_path)
    is_path = text.endswith((".yaml", ".yml")) or "/" in text
    shelf = files("conf") / "rulebooks"
    file = Path(text) if is_path else shelf / f"{text}.yaml"
    try:
        source = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        names = sorted(entry.name.removesuffix(".yaml") for entry in shelf.iterdir() if entry.name.endswith(".yaml"))
        raise RuleBookError(
            f"rule book {text!r} cannot be read ({type(error).__name__})",
            hint=f"give the path of a YAML file, or one of: {', '.join(names)}",
        ) from None
    return read_rulebook(source, text if is_path else f"conf/rulebooks/{text}.yaml")


def read_rulebook(source: str, where: str = "rule book") -> RuleBook:
    """Builds a rule book from YAML text; ``where`` names it in errors. Raises RuleBookError."""
    try:
        root = Node(load_yaml(source), where)
    except yaml.YAMLError as error:
        raise RuleBookError(f"{where}: not valid YAML: {error}", hint="check indentation, colons and quotes") from None
    tiers = _tiers(root.child("tiers"))
    sections = {
        name: Section(node.label("label"), node.text("meaning")) for name, node in root.child("sections").nodes()
    }
    criteria = {name: _criterion(node) for name, node in root.child("criteria").nodes()}
    _check_names(root, sections, criteria)
    rules = tuple(_rule(node, criteria) for node in root.items("decisions"))
    reading = root.choice("reading", ("items", "free"))
    check = _reading_check(root, reading, sections, criteria)
    book = RuleBook(
        name=root.text("name"),
        description=root.text("description"),
        tiers=tiers,
        tier_label=root.label("tier_label"),
        sections=sections,
        reading=reading,
        reading_check=check,
        reading_fallback=_reading_fallback(root.child("reading_fallback"), sections),
        criteria=criteria,
        rules=rules,
        table=_table(root, criteria, rules),
        reward=_reward(root.child("reward"), component_names(criteria, check)),
        hints=_hints(root.child("hints"), criteria),
        prompts={
            name: Prompt(n.text("system", blank=True), n.text("user")) for name, n in root.child("prompts").nodes()
        },
        source=source,
    )
    root.refuse_unknown()
    check_wording(root, book)
    return book


def _tiers(node: Node) -> dict[int, TierText]:
    if set(node.value) != set(TIERS):
        node.fail(f"names the tiers {list(node.value)}", hint="give exactly the tiers 4, 3, 2 and 1, as numbers")
    return {tier: TierText(node.child(tier).text("name"), node.child(tier).text("meaning")) for tier in TIERS}


def _criterion(node: Node) -> Criterion:
    verdicts = node.child("verdicts")
    if len(verdicts.value) < 2:
        verdicts.fail("a criterion needs at least two verdicts")
    return Criterion(
        node.label("label"), node.text("question"), {verdicts.name(v): verdicts.text(v) for v in verdicts.value}
    )


def _check_names(root: Node, sections: dict[str, Section], criteria: dict[str, Criterion]) -> None:
    """Names of components and labels of lines must tell the lines apart."""
    if not criteria:
        root.child("criteria").fail("is empty", hint="a rule book judges at least one criterion")
    for name in criteria:
        if name in (FORMAT, READING, CONSISTENCY, TIER):
            root.child("criteria").child(name).fail("is the name of a reward component that every rule book has")
    labels = [part.label for part in (*sections.values(), *criteria.values())] + [root.label("tier_label")]
    for label in labels:
        if labels.count(label) > 1:
            root.fail(f"the label {label!r} is used twice", hint="every line of a response needs a label of its own")


def _rule(node: Node, criteria: dict[str, Criterion]) -> Rule:
    when = node.child("when")
    conditions = {}
    for name in when.value:
        if name not in criteria:
            when.fail(f"names the unknown criterion {name!r}", hint=f"criteria: {', '.join(criteria)}")
        accepted = when.strings(name)
        for verdict in accepted:
            if verdict not in criteria[name].verdicts:
                allowed = ", ".join(criteria[name].verdicts)
                when.fail(f"{name} has no verdict {verdict!r}", hint=f"verdicts of {name}: {allowed}")
        conditions[name] = accepted
    when.used.update(conditions)
    return Rule(conditions, node.choice("tier", TIERS))


def _table(root: Node, criteria: dict[str, Criterion], rules: tuple[Rule, ...]) -> dict[tuple[str, ...], int]:
    """The decision table written out, after checking that it decides every combination, and only one way."""
    size = math.prod(len(criterion.verdicts) for criterion in criteria.values())
    if size > _MAX_COMBINATIONS:
        root.fail(
            f"has {size} combinations of verdicts", "criteria", hint=f"at most {_MAX_COMBINATIONS}: merge criteria"
        )
    table = {}
    for verdicts in verdict_combinations(criteria):
        found = {rule.tier: number for number, rule in enumerate(rules) if rule.matches(verdicts)}
        stated = ", ".join(f"{name} {verdict}" for name, verdict in verdicts.items())
        if not found:
            root.fail(f"no rule decides: {stated}", "decisions", hint="add a rule for it")
        if len(found) > 1:
            clash = " but ".join(f"rule {number + 1} gives {tier}" for tier, number in found.items())
            root.fail(f"the rules disagree on: {stated} ({clash})", "decisions", hint="make one of them narrower")
        table[tuple(verdicts.values())] = next(iter(found))
    return table


def _reading_check(
    root: Node, reading: str, sections: dict[str, Section], criteria: dict[str, Criterion]
) -> ReadingCheck | None:
    if "reading_check" not in root.value:
        return None
    node = root.child("reading_check")
    if reading != "items":
        node.fail("needs `reading: items`", hint="readings in free words cannot be checked: leave this block out")
    kind, needs = (node.child(key) if key in node.value else None for key in ("kind", "needs"))
    kind_name = kind.choice("criterion", tuple(criteria)) if kind else ""
    needs_name = needs.choice("criterion", tuple(criteria)) if needs else ""
    verdicts = tuple(criteria[needs_name].verdicts) if needs_name else ()
    return ReadingCheck(
        query=node.choice("query", tuple(sections)),
        product=node.choice("product", tuple(sections)),
        kind=kind_name,
        same=kind.choice("same", tuple(criteria[kind_name].verdicts)) if kind else "",
        needs=needs_name,
        outcomes={key: needs.choice(key, verdicts) for key in ("met", "partial", "unmet")} if needs else {},
    )


def _reading_fallback(node: Node, sections: dict[str, Section]) -> dict[str, str]:
    templates = {name: node.text(name) for name in sections}
    for name, template in templates.items():
        try:
            template.format(query="query", title="title")
        except (LookupError, ValueError, AttributeError):
            node.fail(f"{template!r} is not a template", name, hint="use {query} and {title}, and double other braces")
    return templates


def _reward(node: Node, components: tuple[str, ...]) -> RewardSpec:
    weights_node = node.child("weights")
    weights = {name: weights_node.number(name) for name in components}
    if any(weight < 0 for weight in weights.values()) or sum(weights.values()) <= 0:
        weights_node.fail("weights must be at least 0, and one of them more than 0")
    if weights[TIER] <= 0:
        weights_node.fail("must be more than 0: the tier is what is trained", TIER)
    gates = []
    for gate in node.items("gates"):
        gates.append(Gate(gate.choice("component", components), gate.choice("requires", components)))
        if gates[-1].component == gates[-1].requires:
            gate.fail("a component cannot require itself")
    return RewardSpec(weights, node.choice("tier_credit", ("exact", "ordinal")), tuple(gates))


def _hints(node: Node, criteria: dict[str, Criterion]) -> Hints:
    levels = node.value.get("levels")
    if not isinstance(levels, list) or not all(isinstance(level, list) and level for level in levels):
        node.fail("must be a list of lists of facts", "levels", hint="for example [[category], [category, tier]]")
    for fact in (fact for level in levels for fact in level):
        if fact != TIER and fact not in criteria:
            node.fail(f"names {fact!r}", "levels", hint=f"facts: {', '.join([*criteria, TIER])}")
    node.used.add("levels")
    return Hints(tuple(tuple(level) for level in levels), node.text("template"))
