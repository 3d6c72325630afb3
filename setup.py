"""Build of the compiled kernels: vector code once per instruction set, then the Cython modules.

The vector sources (`fastnn/_kernels/vec/isa_*.c`) are the same code compiled with different flags; the
objects are linked into `fastnn._kernels.machine`, which chooses among them at import.  Everything else
about the package is in pyproject.toml.

Environment: FASTNN_NO_OPENMP=1 builds without OpenMP (one thread); FASTNN_CFLAGS adds compiler flags
(sanitizers, say).
"""

import os
import platform
import sys
import tempfile
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, LinkError

KERNELS = Path("fastnn/_kernels")
VEC = KERNELS / "vec"

# No -ffast-math or -Ofast: they switch the whole process to flush-to-zero and break NaN.
# Multiply-adds are written out where they are meant, so the compiler must not contract others.
FLAGS = ["-std=c11", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-fvisibility=hidden"]

# What dispatch.c asks the CPU for is what the compiler may use: keep the two together.
VARIANTS = {
    "x86_64": {
        "baseline": ["-march=x86-64"],
        "avx2": ["-march=x86-64", "-mavx2", "-mfma", "-mbmi2", "-mtune=haswell"],
        "avx512": ["-march=x86-64", "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx2", "-mfma",
                   "-mbmi2", "-mtune=skylake-avx512", "-mprefer-vector-width=512"],
    },
    "aarch64": {"neon": []},
}
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


def variants() -> dict[str, list[str]]:
    """The instruction sets to compile for, by name, with their flags."""
    machine = os.environ.get("_PYTHON_HOST_PLATFORM", platform.machine()).lower().rsplit("-", 1)[-1]
    return VARIANTS.get(MACHINES.get(machine, machine), {"baseline": []})


class BuildExt(build_ext):
    """build_ext that compiles the variants and asks the compiler for OpenMP."""

    def build_extensions(self) -> None:
        openmp = [] if os.environ.get("FASTNN_NO_OPENMP") else self._openmp_flags()
        extra = os.environ.get("FASTNN_CFLAGS", "").split()
        for extension in self.extensions:
            extension.extra_compile_args += [*FLAGS, "-O2", "-Wno-unused-function", *openmp, *extra]
            extension.extra_link_args += [*openmp, *extra]
            if extension.name.endswith(".machine"):
                extension.extra_objects += self._vector_objects(extra)
        super().build_extensions()

    def _vector_objects(self, extra: list[str]) -> list[str]:
        objects = []
        for name, flags in variants().items():
            objects += self.compiler.compile([str(VEC / f"isa_{name}.c")], output_dir=self.build_temp,
                                             extra_preargs=[*FLAGS, "-O3", "-Wall", "-Wextra", *flags, *extra],
                                             depends=[str(p) for p in VEC.glob("*.h")])
        return objects + self.compiler.compile([str(VEC / "dispatch.c")], output_dir=self.build_temp,
                                               extra_preargs=[*FLAGS, *extra], depends=[str(VEC / "table.h")])

    def _openmp_flags(self) -> list[str]:
        """-fopenmp where it compiles and links, else nothing: the kernels then run on one thread."""
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "probe.c")
            source.write_text("#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n")
            try:
                objects = self.compiler.compile([str(source)], output_dir=folder, extra_preargs=["-fopenmp"])
                self.compiler.link_executable(objects, str(Path(folder, "probe")), extra_preargs=["-fopenmp"])
            except (CompileError, LinkError):
                print("fastnn: no OpenMP here, building for one thread", file=sys.stderr)
                return []
        return ["-fopenmp"]


MODULES = ["machine", "arrays", "program", "activations", "gemm", "dense", "batchnorm", "losses", "updates"]
extensions = [
    Extension(f"fastnn._kernels.{name}", [str(KERNELS / f"{name}.pyx")], include_dirs=[str(KERNELS)],
              depends=[str(KERNELS / f) for f in ("team.h", "process.h", "vec/table.h")])
    for name in MODULES
]

setup(
    ext_modules=cythonize(extensions, language_level=3),
    cmdclass={"build_ext": BuildExt},
)
