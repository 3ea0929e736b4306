"""Positional encodings by name; each entry says where in the model it acts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PositionalEncoding:
    """One way to tell positions apart.

    Attributes:
        name: what configurations and the command line call it.
        title: what papers call it.
        description: one line for a reader.
        table: whether it adds a learned [context, C] table to the embedding, which bounds the length of a sequence.
    """

    name: str
    title: str
    description: str
    table: bool


ENCODINGS = {
    encoding.name: encoding
    for encoding in (
        PositionalEncoding(
            "ape", "APE", "learned absolute positions; a random offset for each training row", table=True
        ),
        PositionalEncoding("nope", "NoPE", "no positions: order is seen through the causal mask alone", table=False),
    )
}
NAMES = tuple(ENCODINGS)


def encoding(name: str) -> PositionalEncoding:
    """The encoding called ``name``.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in ENCODINGS:
        raise ValueError(f"unknown positions {name!r}: choose one of {', '.join(NAMES)}")
    return ENCODINGS[name]
