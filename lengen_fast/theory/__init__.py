"""What theory says of a task and asks of a model (arXiv 2410.02140)."""

from lengen_fast.theory.crasp import CraspError, Program, parse, predicted_targets, program_for, standard
from lengen_fast.theory.predictor import predict, predict_regex
from lengen_fast.theory.regularizer import Regularizer, positional_product_penalty
from lengen_fast.theory.verdict import Outlook, Verdict

__all__ = [
    "CraspError",
    "Outlook",
    "Program",
    "Regularizer",
    "Verdict",
    "parse",
    "positional_product_penalty",
    "predict",
    "predict_regex",
    "predicted_targets",
    "program_for",
    "standard",
]
