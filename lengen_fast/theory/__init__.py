"""What theory says of a task and asks of a model (arXiv 2410.02140)."""

from lengen_fast.theory.regularizer import positional_product_penalty

__all__ = ["positional_product_penalty"]
