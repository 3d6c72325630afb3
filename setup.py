"""Build of the compiled kernels: vector code once per instruction set, then the Cython modules.

The vector sources (`fastnn/_kernels/vec/isa_*.c`) are the same code compiled with different flags; the
objects are linked into `fastnn._kernels.machine`, which chooses among them at import. Everything else
about the package is in pyproject.toml.

Environment: FASTNN_NO_OPENMP=1 builds without OpenMP (one thread); FASTNN_CFLAGS adds compiler flags:
a sanitizer, say, or -g, which also keeps the symbols for a debugger or a profiler.
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, LinkError
from setuptools.modified import newer_group

KERNELS = Path("fastnn/_kernels")
VEC = KERNELS / "vec"

# No -ffast-math or -Ofast: they switch the whole process to flush-to-zero and break NaN.
# Multiply-adds are written out where they are meant, so the compiler must not contract others.
# -g0: many Pythons hand down a -g of their own, which makes the kernels ten times as large.
FLAGS = [
    "-std=c11", "-g0", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-fvisibility=hidden",
]  # fmt: skip

# What dispatch.c asks the CPU for is what the compiler may use: keep the two together.
VARIANTS = {
    "x86_64": {
        "baseline": ["-march=x86-64"],
        "avx2": ["-march=x86-64", "-mavx2", "-mfma", "-mbmi2", "-mtune=haswell"],
        "avx512": [
            "-march=x86-64", "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx2", "-mfma",
            "-mbmi2", "-mtune=skylake-avx512", "-mprefer-vector-width=512",
        ],
    },
    "aarch64": {"neon": []},
}  # fmt: skip
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


def variants() -> dict[str, list[str]]:
    """The instruction sets to compile for, by name, with their flags."""
    host = os.environ.get("_PYTHON_HOST_PLATFORM", platform.machine())
    machine = host.lower().rsplit("-", 1)[-1]
    return VARIANTS.get(MACHINES.get(machine, machine), {"baseline": []})


def usable_cores() -> int:
    """How many compilers may run at once."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class BuildExt(build_ext):
    """build_ext that compiles the variants and asks the compiler for OpenMP."""

    def finalize_options(self) -> None:
        super().finalize_options()
        if self.parallel is None:
            self.parallel = usable_cores()

    def build_extensions(self) -> None:
        openmp = [] if os.environ.get("FASTNN_NO_OPENMP") else self._openmp_flags()
        extra = os.environ.get("FASTNN_CFLAGS", "").split()
        self._rebuild_where_flags_changed([*openmp, *extra])
        # The dynamic linker needs no names of static functions; a profiler does.
        strip = sys.platform == "linux" and not self.inplace and "-g" not in extra
        for extension in self.extensions:
            extension.extra_compile_args += [*FLAGS, "-O2", "-Wno-unused-function", *openmp, *extra]
            extension.extra_link_args += [*openmp, *extra, *["-Wl,-s"] * strip]
            if extension.name.endswith(".machine"):
                extension.extra_objects += self._vector_objects(extra)
                extension.depends += extension.extra_objects
        super().build_extensions()

    def _rebuild_where_flags_changed(self, flags: list[str]) -> None:
        """setuptools compares times of files, which do not tell of other flags."""
        stamp = Path(self.build_temp, "flags")
        text = " ".join(flags)
        if not stamp.exists() or stamp.read_text() != text:
            self.force = True
            stamp.parent.mkdir(parents=True, exist_ok=True)
            stamp.write_text(text)

    def _vector_objects(self, extra: list[str]) -> list[str]:
        """Compile the variants side by side; they are most of the build's time."""
        warn = ["-Wall", "-Wextra"]
        jobs = {f"isa_{name}.c": ["-O3", *warn, *flags] for name, flags in variants().items()}
        jobs["dispatch.c"] = ["-O2", *warn]
        headers = [str(path) for path in VEC.glob("*.h")]

        def compile_one(name: str) -> str:
            source = str(VEC / name)
            (target,) = self.compiler.object_filenames([source], output_dir=self.build_temp)
            if self.force or newer_group([source, *headers], target):
                flags = [*FLAGS, *jobs[name], *extra]
                self.compiler.compile([source], output_dir=self.build_temp, extra_preargs=flags)
            return str(target)

        with ThreadPoolExecutor(self.parallel) as pool:
            return list(pool.map(compile_one, jobs))

    def _openmp_flags(self) -> list[str]:
        """-fopenmp where it compiles and links, else nothing: the kernels then run on one thread."""
        flags = ["-fopenmp"]
        with tempfile.TemporaryDirectory() as folder:
            source, program = Path(folder, "probe.c"), str(Path(folder, "probe"))
            source.write_text(
                "#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n"
            )
            try:
                found = self.compiler.compile([str(source)], output_dir=folder, extra_preargs=flags)
                self.compiler.link_executable(found, program, extra_preargs=flags)
            except (CompileError, LinkError):
                print("fastnn: no OpenMP here, building for one thread", file=sys.stderr)
                return []
        return flags


MODULES = [
    "machine", "arrays", "program", "activations", "gemm", "dense", "batchnorm", "losses", "updates",
]  # fmt: skip
extensions = [
    Extension(
        f"fastnn._kernels.{name}",
        [str(KERNELS / f"{name}.pyx")],
        include_dirs=[str(KERNELS)],
        depends=[str(KERNELS / header) for header in ("team.h", "process.h", "vec/table.h")],
    )
    for name in MODULES
]

setup(
    # The C that Cython writes goes to build/, so that neither the sources nor the sdist hold any.
    ext_modules=cythonize(extensions, language_level=3, build_dir="build/cython"),
    cmdclass={"build_ext": BuildExt},
)
