"""Compiling the kernels: one library for each level of the processor's instructions, named after the sources' hash.

A library is only ever loaded beside the sources that it was made from. OpenMP is not linked in: its functions are found
in the process that loads the library, where torch has brought them, so that both share one pool of threads.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

SOURCES = Path(__file__).parent / "source"
BUILT = Path(__file__).parent / "built"
FLAGS = ("-std=c++17", "-O3", "-fPIC", "-fopenmp", "-fno-math-errno", "-fno-exceptions", "-fno-rtti")
WARNINGS = ("-Wall", "-Wextra", "-Wno-psabi")
# By machine: levels of instructions, named as torch names them, and what the compiler is told for each.
LEVELS: dict[str, dict[str, tuple[str, ...]]] = {
    "x86_64": {
        "AVX512": ("-march=x86-64-v4", "-mprefer-vector-width=512"),
        "AVX2": ("-march=x86-64-v3",),
    },
    "aarch64": {"NEON": ("-march=armv8-a",)},
}


class BuildError(Exception):
    """The kernels cannot be compiled here; says why."""


def build_kernels(compiler: str | None = None) -> list[Path]:
    """Compile for each level of this kind of processor; what is there already stays. Returns the libraries.

    `compiler`: $CXX or g++ where it is None. Raises BuildError.
    """
    levels = LEVELS.get(platform.machine(), {}) if platform.system() == "Linux" else {}
    if not levels:
        raise BuildError(f"There are kernels for Linux on {' and '.join(LEVELS)}, not for {platform.platform()}.")
    compiler = compiler or os.environ.get("CXX") or "g++"
    missing = [level for level in levels if not library(level).exists()]
    if missing and shutil.which(compiler) is None:
        raise BuildError(f"No C++ compiler: {compiler} is not on the PATH. Install g++, or name another in CXX.")
    BUILT.mkdir(exist_ok=True)
    for level in missing:
        _compile(compiler, levels[level], library(level))
    libraries = [library(level) for level in levels]
    for old in set(BUILT.glob("*.so")) - set(libraries):
        old.unlink()
    return libraries


def library(level: str) -> Path:
    """Where the library for a level lies, or would lie, that fits today's sources."""
    digest = hashlib.sha256()
    for source in sorted(SOURCES.iterdir()):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return BUILT / f"{level.lower()}-{digest.hexdigest()[:16]}.so"


def _compile(compiler: str, flags: tuple[str, ...], target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=BUILT) as folder:
        objects = []
        for source in sorted(SOURCES.glob("*.cpp")):
            objects.append(str(Path(folder) / f"{source.stem}.o"))
            _run(compiler, *FLAGS, *WARNINGS, *flags, "-c", str(source), "-o", objects[-1])
        linked = Path(folder) / target.name
        _run(compiler, "-shared", *objects, "-o", str(linked))
        linked.replace(target)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(f"{' '.join(command)} failed:\n{done.stderr.strip()[-2000:]}")
