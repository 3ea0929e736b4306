"""From a program of C-RASP[periodic, local] to the weights of a transformer that is exact to a guaranteed length."""

from lengen_fast.theory.compiler.compile import CompiledTransformer, Guarantee, compile_program
from lengen_fast.theory.compiler.files import load, save
from lengen_fast.theory.compiler.verification import Verification, verify

__all__ = ["CompiledTransformer", "Guarantee", "Verification", "compile_program", "load", "save", "verify"]
