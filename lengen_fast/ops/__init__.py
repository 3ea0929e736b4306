"""Operations: one file each, with its public function, checks and dispatch. ``reference`` defines them all."""

from lengen_fast.ops.attention import attention
from lengen_fast.ops.embedding import embed
from lengen_fast.ops.gelu import gelu
from lengen_fast.ops.packing import Packing

__all__ = ["Packing", "attention", "embed", "gelu"]
