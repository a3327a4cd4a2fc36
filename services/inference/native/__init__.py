"""Kernels of our own for the processor, for what lies between the matrix products: `python -m services.inference.native`
compiles them where there is a C++ compiler, and `load_kernels` finds what was compiled. Where there is none, torch does
the same work, more slowly. Knows torch's tensors; nothing of models or paths.
"""

from .build import BuildError, build_kernels
from .kernels import KernelError, Kernels, load_kernels

__all__ = ["BuildError", "KernelError", "Kernels", "build_kernels", "load_kernels"]
