"""Build of the compiled kernels: vector code once per instruction set, then the Cython modules.

The vector sources (`fastnn/_kernels/vec/isa_*.c`) are the same code compiled with different flags; the
objects are linked into `fastnn._kernels.machine`, which chooses among them at import. Everything else
about the package is in pyproject.toml.

Environment: FASTNN_NO_OPENMP=1 builds without OpenMP (one thread); FASTNN_CFLAGS adds compiler flags:
a sanitizer, say, or -g, which also keeps the symbols for a debugger or a profiler; FASTNN_OBJECTS names
a folder where several builds share the compiled vector code.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, LinkError

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
        objects = self._vector_objects(extra)
        # setuptools compares times of files, which do not tell of other flags or older objects.
        self.force = self._changed("flags", [*openmp, *extra]) or self.force
        if self._changed("objects", objects):
            for path in objects:
                os.utime(path)
        # The dynamic linker needs no names of static functions; a profiler does.
        strip = sys.platform == "linux" and not self.inplace and "-g" not in extra
        for extension in self.extensions:
            extension.extra_compile_args += [*FLAGS, "-O2", "-Wno-unused-function", *openmp, *extra]
            extension.extra_link_args += [*openmp, *extra, *["-Wl,-s"] * strip]
            if extension.name.endswith(".machine"):
                extension.extra_objects += objects
                extension.depends += objects
        super().build_extensions()

    def _changed(self, what: str, now: list[str]) -> bool:
        """Whether this is other than at the last build in this folder."""
        record = Path(self.build_temp, f"last-{what}")
        if record.exists() and record.read_text() == "\n".join(now):
            return False
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text("\n".join(now))
        return True

    def _vector_objects(self, extra: list[str]) -> list[str]:
        """Compile the variants side by side: they are most of the build's time.

        They know nothing of Python, so an object is kept under what it depends on (compiler, flags,
        sources) and serves every build that needs the same one.
        """
        jobs = {f"isa_{name}.c": ["-O3", *flags] for name, flags in variants().items()}
        jobs["dispatch.c"] = ["-O2"]
        sources = b"".join(path.read_bytes() for path in sorted(VEC.glob("*.[ch]")))
        kept = Path(os.environ.get("FASTNN_OBJECTS", "build/vec"))
        kept.mkdir(parents=True, exist_ok=True)

        def compile_one(name: str) -> str:
            flags = [*FLAGS, "-Wall", "-Wextra", *jobs[name], *extra]
            recipe = repr((self.compiler.compiler_so, flags, sources)).encode()
            target = kept / f"{Path(name).stem}-{sha256(recipe).hexdigest()[:16]}.o"
            if not target.exists():
                (made,) = self.compiler.compile(
                    [str(VEC / name)], output_dir=self.build_temp, extra_preargs=flags
                )
                partial = target.with_suffix(f".{os.getpid()}")
                shutil.copy(made, partial)
                partial.replace(target)  # another build may be looking
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
    "machine", "arguments", "arrays", "program", "activations", "gemm", "skinny", "dense", "batchnorm",
    "fusion", "softmax", "maxout", "dropout", "losses", "updates",
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
