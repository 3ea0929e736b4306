"""Builds the C++ data engine and the CPU kernels; everything else is in pyproject.toml.

The binary is portable: no -march flag here, wider vector code is chosen at run time inside csrc/.
"""

from pathlib import Path

from pybind11.setup_helpers import Pybind11Extension, build_ext
from setuptools import setup

SOURCES = Path("csrc")


def extension(name: str, source: str, *flags: str) -> Pybind11Extension:
    return Pybind11Extension(
        name,
        sources=[source],
        depends=sorted(str(path) for path in SOURCES.rglob("*.hpp")),
        include_dirs=[str(SOURCES)],
        cxx_std=20,
        extra_compile_args=["-O3", "-Wall", "-Wextra", "-pthread", *flags],
        extra_link_args=["-pthread"],
    )


setup(
    ext_modules=[
        # contraction: on every processor the same thresholds from the same counts
        extension("lengen_fast._engine", "csrc/engine.cpp", "-ffp-contract=off"),
        # contraction: a * b + c may be one instruction; psabi: a note about vectors that never cross a call
        extension("lengen_fast._cpu", "csrc/cpu/bindings.cpp", "-ffp-contract=fast", "-Wno-psabi"),
    ],
    cmdclass={"build_ext": build_ext},
)
