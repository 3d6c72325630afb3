"""Build of the compiled kernels: vector code once per instruction set, then the Cython modules.

The vector sources (`fastnn/_kernels/vec/isa_*.c`) are the same code compiled with different flags; the
objects are linked into `fastnn._kernels.machine`, which chooses among them at import. Everything else
about the package is in pyproject.toml.

Environment: FASTNN_NO_OPENMP=1 builds without OpenMP (one thread); FASTNN_CFLAGS adds compiler flags:
a sanitizer, say, or -g, which also keeps the symbols for a debugger or a profiler; FASTNN_OBJECTS names
a folder where several builds share the compiled vector code; FASTNN_ABI3=1 builds for the limited C API
of Python 3.11, so that one wheel serves all later ones. That is no default: Cython has no fast calls there
before 3.12, and a call on a small array takes up to 1.7 times as long (benchmarks/builds.py measures it).

What is built depends on nothing but the sources and the tools: two builds give the same bytes.
"""

from __future__ import annotations

import gzip
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from hashlib import sha256
from pathlib import Path
from typing import Any

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.command.sdist import sdist
from setuptools.errors import CompileError, ExecError, LinkError

if sysconfig.get_config_var("Py_GIL_DISABLED"):
    sys.exit(
        "fastnn needs Python's global lock, which guards the scratch memory of its kernels, and this is a"
        " free-threaded Python: use the ordinary one (python3.13, not python3.13t)"
    )

# The time of what is written into archives: zip files know none before 1980.
EPOCH = int(os.environ.setdefault("SOURCE_DATE_EPOCH", "315619200"))

KERNELS = Path("fastnn/_kernels")
VEC = KERNELS / "vec"

# No -ffast-math or -Ofast: they switch the whole process to flush-to-zero and break NaN.
# Multiply-adds are written out where they are meant, so the compiler must not contract others.
# -g0: many Pythons hand down a -g of their own, which makes the kernels ten times as large.
FLAGS = [
    "-std=c11", "-g0", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-fvisibility=hidden",
    "-fwrapv",
]  # fmt: skip

# Nothing is thrown through this code, and Python ends no thread in it: this saves 75 kB of the wheel.
# A debugger finds its way with FASTNN_CFLAGS=-g, which brings tables of its own. Windows cannot do without.
if sys.platform == "linux":
    FLAGS.append("-fno-asynchronous-unwind-tables")

# Modules that call kernels and loop over little themselves: compiled for size they are a quarter smaller,
# which takes 35 kB off the wheel. Everywhere it would take 100 kB, and cost a call of 8 x 8 numbers 5% more
# instructions.
SMALL = ("updates", "program", "maxout", "dropout")

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


# For machines without AVX2. The rest of -O3 would be 31 kB of the wheel, for 2 to 11% fewer
# instructions of batch norm; without peeling, batch norm would take 1.6 to 1.9 times as many.
SPARE = ["-O2", "-funswitch-loops", "-fpeel-loops"]


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


class Sdist(sdist):
    """sdist whose archive says nothing of who packed it, when and with which permissions."""

    def make_archive(self, base_name: Any, format: str, *args: Any, **options: Any) -> Any:
        if format != "gztar":
            return super().make_archive(base_name, format, *args, **options)

        def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = ""
            entry.mtime = EPOCH
            entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
            return entry

        name = f"{base_name}.tar.gz"
        with (
            open(name, "wb") as file,
            gzip.GzipFile("", "wb", fileobj=file, mtime=EPOCH) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            archive.add(options["base_dir"], filter=plain)
        return name


class BdistWheel(bdist_wheel):
    """bdist_wheel whose files have the same permissions whatever those of the checkout are."""

    def write_wheelfile(self, *args: Any, **options: Any) -> None:  # the last before all is packed
        super().write_wheelfile(*args, **options)
        for path in Path(self.bdist_dir).rglob("*"):
            path.chmod(0o755 if path.is_dir() or path.suffix == ".so" else 0o644)


class BuildExt(build_ext):
    """build_ext that compiles the variants and asks the compiler for OpenMP."""

    def finalize_options(self) -> None:
        super().finalize_options()
        if self.parallel is None:
            self.parallel = usable_cores()

    def build_extensions(self) -> None:
        compiler = self.compiler
        self.clang_cl = compiler.compiler_type == "msvc"
        if self.clang_cl:
            self._use_clang_cl()
        else:  # Some Pythons hand down the folder of their own library, which no extension needs.
            compiler.linker_so = [f for f in compiler.linker_so if not f.startswith("-Wl,-rpath")]
        compiling, linking = self._openmp_flags()
        extra = os.environ.get("FASTNN_CFLAGS", "").split()
        objects = self._vector_objects(extra)
        # setuptools compares times of files, which do not tell of other flags or older objects.
        self.force = (
            self._changed("flags", [*compiling, *linking, *extra, ABI, *SMALL]) or self.force
        )
        if self._changed("objects", objects):
            for path in objects:
                os.utime(path)
        # The dynamic linker needs no names of static functions; a profiler does.
        strip = sys.platform == "linux" and not self.inplace and "-g" not in extra
        for extension in self.extensions:
            level = "-Os" if extension.name.rsplit(".", 1)[-1] in SMALL else "-O2"
            flags = self._flags([*FLAGS, level, "-Wno-unused-function", *extra])
            extension.extra_compile_args += [*flags, *compiling]
            extension.extra_link_args += [*linking, *extra, *["-Wl,-s"] * strip]
            if extension.name.endswith(".machine"):
                extension.extra_objects += objects
                extension.depends += objects
                if self.clang_cl:
                    extension.extra_objects.append(self._clang_builtins())
        super().build_extensions()

    def _use_clang_cl(self) -> None:
        """MSVC itself knows no vector types: its linker and libraries with the compiler of LLVM."""
        found = shutil.which("clang-cl")
        if found is None:
            raise ExecError("fastnn is built by clang-cl on Windows: put the bin of LLVM on PATH")
        if not self.compiler.initialized:
            self.compiler.initialize()
        self.compiler.cc = found
        self.compiler.compile_options.remove("/GL")  # the linker of MSVC cannot optimise for LLVM

    def _clang_builtins(self) -> str:
        """Where LLVM keeps what __builtin_cpu_supports needs; MSVC's linker does not look there."""
        command = [self.compiler.cc, "/clang:--rtlib=compiler-rt", "/clang:-print-libgcc-file-name"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def _flags(self, flags: list[str]) -> list[str]:
        """The flags as this compiler wants them."""
        if not self.clang_cl:
            return flags
        return [f"/clang:{flag}" for flag in flags if flag != "-fvisibility=hidden"]

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

        They know nothing of Python and are compiled without its flags, so an object is kept under what
        it depends on (compiler, flags, sources) and serves every Python that is built for.
        """
        jobs = {
            f"isa_{name}.c": [*(SPARE if name == "baseline" else ["-O3"]), *flags]
            for name, flags in variants().items()
        }
        jobs["dispatch.c"] = ["-O2"]
        sources = b"".join(path.read_bytes() for path in sorted(VEC.glob("*.[ch]")))
        kept = Path(os.environ.get("FASTNN_OBJECTS", "build/vec"))
        kept.mkdir(parents=True, exist_ok=True)

        compiler = copy(self.compiler)
        if sys.platform == "linux":  # elsewhere these flags may name the architecture
            of_python = (sysconfig.get_config_var("CFLAGS") or "").split()
            compiler.compiler_so = [f for f in compiler.compiler_so if f not in of_python]
        command = compiler.cc if self.clang_cl else compiler.compiler_so

        def compile_one(name: str) -> str:
            flags = [*FLAGS, "-Wall", "-Wextra", *jobs[name], *extra]
            flags = self._flags(flags)
            recipe = repr((command, flags, sources)).encode()
            suffix = compiler.obj_extension
            target = kept / f"{Path(name).stem}-{sha256(recipe).hexdigest()[:16]}{suffix}"
            if not target.exists():
                (made,) = compiler.compile(
                    [str(VEC / name)], output_dir=self.build_temp, extra_preargs=flags
                )
                partial = target.with_suffix(f".{os.getpid()}")
                shutil.copy(made, partial)
                partial.replace(target)  # another build may be looking
            return str(target)

        with ThreadPoolExecutor(self.parallel) as pool:
            return list(pool.map(compile_one, jobs))

    def _openmp_flags(self) -> tuple[list[str], list[str]]:
        """What compiles and links OpenMP here, else nothing: the kernels then run on one thread."""
        if os.environ.get("FASTNN_NO_OPENMP"):
            return [], []
        ways: list[tuple[list[str], list[str]]] = [(["-fopenmp"], ["-fopenmp"])]
        if self.clang_cl:
            ways = [(["/clang:-fopenmp"], ["libomp.lib"])]
        elif sys.platform == "darwin":  # Apple's clang knows OpenMP but brings no run-time
            for root in ("/opt/homebrew/opt/libomp", "/usr/local/opt/libomp", sys.prefix):
                compiling = ["-Xpreprocessor", "-fopenmp", f"-I{root}/include"]
                ways.append((compiling, [f"-L{root}/lib", "-lomp"]))
        with tempfile.TemporaryDirectory() as folder:
            source, program = Path(folder, "probe.c"), str(Path(folder, "probe"))
            source.write_text(
                "#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n"
            )
            for compiling, linking in ways:
                try:
                    found = self.compiler.compile(
                        [str(source)], output_dir=folder, extra_preargs=compiling
                    )
                    self.compiler.link_executable(found, program, extra_preargs=linking)
                except (CompileError, LinkError):
                    continue
                return compiling, linking
        print("fastnn: no OpenMP here, building for one thread", file=sys.stderr)
        return [], []


MODULES = [
    "machine", "arguments", "arrays", "program", "activations", "gemm", "skinny", "dense", "batchnorm",
    "softmax", "maxout", "dropout", "losses", "updates",
]  # fmt: skip
ABI = "0x030b0000" if os.environ.get("FASTNN_ABI3") else ""
extensions = [
    Extension(
        f"fastnn._kernels.{name}",
        [str(KERNELS / f"{name}.pyx")],
        include_dirs=[str(KERNELS)],
        depends=[str(KERNELS / header) for header in ("team.h", "process.h", "vec/table.h")],
        define_macros=[("Py_LIMITED_API", ABI)] if ABI else [],
        py_limited_api=bool(ABI),
    )
    for name in MODULES
]

setup(
    # The C that Cython writes goes to build/, so that neither the sources nor the sdist hold any.
    ext_modules=cythonize(extensions, language_level=3, build_dir="build/cython"),
    cmdclass={"bdist_wheel": BdistWheel, "build_ext": BuildExt, "sdist": Sdist},
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if ABI else {},
)
