"""What theory says of a task and asks of a model (arXiv 2410.02140)."""

from lengen_fast.theory.crasp import CraspError, Program, parse, predicted_targets, program_for, standard
from lengen_fast.theory.regularizer import positional_product_penalty

__all__ = [
    "CraspError",
    "Program",
    "parse",
    "positional_product_penalty",
    "predicted_targets",
    "program_for",
    "standard",
]
