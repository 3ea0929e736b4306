"""Builds the C++ data engine; everything else is in pyproject.toml.

The binary is portable: no -march flag here, wider vector code is chosen at run time inside csrc/.
"""

from pathlib import Path

from pybind11.setup_helpers import Pybind11Extension, build_ext
from setuptools import setup

SOURCES = Path("csrc")

engine = Pybind11Extension(
    "lengen_fast._engine",
    sources=["csrc/engine.cpp"],
    depends=sorted(str(path) for path in SOURCES.rglob("*.hpp")),
    include_dirs=[str(SOURCES)],
    cxx_std=20,
    extra_compile_args=["-O3", "-Wall", "-Wextra", "-pthread"],
    extra_link_args=["-pthread"],
)

setup(ext_modules=[engine], cmdclass={"build_ext": build_ext})
