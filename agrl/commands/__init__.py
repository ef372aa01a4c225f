"""A module for each command, and what they have in common."""


def is_override(word: str) -> bool:
    """Whether a word of a command line is a setting: ``key=value``, or ``~key``, which takes something out."""
    return word.startswith("~") or ("=" in word and not word.startswith("-"))
