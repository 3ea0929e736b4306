"""C-RASP[periodic, local] (arXiv 2410.02140, section 4): the language, its checker and its interpreter."""

from lengen_fast.theory.crasp import standard
from lengen_fast.theory.crasp.bridge import correct_positions, predicted_targets, program_for
from lengen_fast.theory.crasp.parser import parse
from lengen_fast.theory.crasp.program import Program
from lengen_fast.theory.crasp.syntax import CraspError

__all__ = ["CraspError", "Program", "correct_positions", "parse", "predicted_targets", "program_for", "standard"]
