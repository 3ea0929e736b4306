"""Names of symbols: what can be told apart in print and on the command line."""

from __future__ import annotations

SPECIAL_NAMES = ("<bos>", "<sep>", "<eos>")


def is_symbol_name(name: object) -> bool:
    """Whether something can name an ordinary symbol: visible characters, and not the name of a special token."""
    visible = isinstance(name, str) and name != "" and name.isprintable() and not any(map(str.isspace, name))
    return visible and name not in SPECIAL_NAMES
