"""From a program of C-RASP[periodic, local] to the weights of a transformer that is exact to a guaranteed length."""

from lengen_fast.theory.compiler.compile import CompiledTransformer, compile_program

__all__ = ["CompiledTransformer", "compile_program"]
