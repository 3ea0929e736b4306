"""Operations: one file each, with its public function, checks and dispatch. ``reference`` defines them all."""

from lengen_fast.ops.attention import attention
from lengen_fast.ops.bias import DistanceBias, log_n_scale
from lengen_fast.ops.embedding import embed
from lengen_fast.ops.gelu import gelu
from lengen_fast.ops.packing import Packing

__all__ = ["DistanceBias", "Packing", "attention", "embed", "gelu", "log_n_scale"]
