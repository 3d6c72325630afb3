"""The package as a whole: its names and their types, what importing it costs, what a build holds."""

from __future__ import annotations

import ast
import inspect
import json
import platform
import re
import shutil
import statistics
import subprocess
import sys
import textwrap
import zipfile
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path

import pytest
from processes import inherited, printed, python

import fastnn

REPOSITORY = Path(__file__).parents[1]
PACKAGE = Path(fastnn.__file__).parent

# Names and stubs ----------------------------------------------------------------------------------


def imported_names(stub: Path) -> dict[str, str]:
    """The names that a stub passes on, with the modules they come from."""
    return {
        str(alias.asname): str(statement.module)
        for statement in ast.parse(stub.read_text()).body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }


def test_stub_and_table_of_lazy_names_agree():
    names = imported_names(PACKAGE / "__init__.pyi")
    assert sorted([*names, "__version__"]) == sorted(fastnn.__all__)
    for name, module in names.items():
        value = getattr(fastnn, name)
        if module == "fastnn":
            assert value is import_module(f"fastnn.{name}")
        else:
            assert value is getattr(import_module(module), name)


def test_names_are_listed_and_unknown_ones_refused():
    assert set(fastnn.__all__) <= set(dir(fastnn))
    with pytest.raises(AttributeError, match="'fastnn' has no attribute 'Sequentail'"):
        _ = fastnn.Sequentail


def names_of(function: ast.FunctionDef) -> list[str]:
    """The names of its arguments, in their order."""
    given = function.args
    named = [*given.args, *filter(None, [given.vararg]), *given.kwonlyargs]
    return [argument.arg for argument in named]


def described(stub: Path) -> dict[str, list[str]]:
    """Functions and methods of a stub, with the names of their arguments."""
    found = {}
    for statement in ast.parse(stub.read_text()).body:
        if isinstance(statement, ast.FunctionDef):
            found[statement.name] = names_of(statement)
        elif isinstance(statement, ast.ClassDef):
            found[statement.name] = []
            for method in statement.body:
                if isinstance(method, ast.FunctionDef) and not method.name.startswith("__"):
                    arguments = [] if method.decorator_list else names_of(method)
                    found[f"{statement.name}.{method.name}"] = arguments
    return found


def defined(module: object) -> dict[str, list[str]]:
    """The same of a compiled module."""
    found = {}
    for name, value in vars(module).items():
        if name.startswith("_") or inspect.ismodule(value):
            continue
        if inspect.isclass(value):
            found[name] = []
            for key, member in vars(value).items():
                if inspect.isgetsetdescriptor(member) and not key.startswith("__"):
                    found[f"{name}.{key}"] = []
                elif callable(member) and not key.startswith("__"):
                    found[f"{name}.{key}"] = list(inspect.signature(member).parameters)
        elif callable(value):
            found[name] = list(inspect.signature(value).parameters)
    return found


@pytest.mark.parametrize("stub", sorted(PACKAGE.glob("_kernels/*.pyi")), ids=lambda p: p.stem)
def test_stub_describes_its_compiled_module(stub):
    assert described(stub) == defined(import_module(f"fastnn._kernels.{stub.stem}"))


def test_every_compiled_module_has_a_stub():
    compiled = {path.name.split(".")[0] for path in PACKAGE.glob("_kernels/*.so")}
    assert compiled == {path.stem for path in PACKAGE.glob("_kernels/*.pyi")}
    assert (PACKAGE / "py.typed").is_file()


def test_version_is_that_of_the_installed_package():
    try:
        installed = metadata.version("fastnn")
    except metadata.PackageNotFoundError:
        pytest.skip("fastnn is not installed, it runs from its folder")
    assert installed == fastnn.__version__


def test_examples_of_the_readme_run(tmp_path, monkeypatch):
    if not (REPOSITORY / "README.md").is_file():
        pytest.skip("the README is not here")
    pytest.importorskip("sklearn")
    monkeypatch.chdir(tmp_path)
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    examples = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert len(examples) == 2
    spaces = [{}, {}]
    for example, names in zip(examples, spaces, strict=True):
        exec(compile(example, "README.md", "exec"), names)
    assert spaces[0]["model"].evaluate(*digits_test())["accuracy"] > 0.9
    assert fastnn.load(tmp_path / "digits.safetensors").output_shape == (10,)
    assert spaces[1]["dw"].shape == (784, 500)


def digits_test():
    """The rows that the README's example tests on."""
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    return X[1500:].astype("float32") / 16, y[1500:]


# The cost of importing ----------------------------------------------------------------------------

OPTIONAL = {"jax", "matplotlib", "polars", "pandas", "safetensors", "sklearn", "torch", "tqdm"}

WHAT_COMES_ALONG = """
    import importlib, sys  # nothing heavier: what is here already is not seen to come along
    before = set(sys.modules)
    {statement}
    found = sorted(set(sys.modules) - before)
    import json
    print(json.dumps(found))
"""


def test_import_loads_nothing_but_the_package_itself():
    modules = json.loads(printed(WHAT_COMES_ALONG.format(statement="import fastnn")))
    assert modules == ["fastnn"]


@pytest.mark.parametrize(
    "statement",
    [
        "from fastnn import *",
        "import fastnn, numpy; fastnn.Sequential([fastnn.Dense(2)]).forward(numpy.eye(3, dtype='f'))",
    ],
)
def test_names_are_used_without_the_optional_packages(statement):
    modules = json.loads(printed(WHAT_COMES_ALONG.format(statement=statement)))
    assert "fastnn._kernels.machine" in modules
    assert not OPTIONAL & {module.split(".")[0] for module in modules}


def test_import_costs_at_most_30_ms_over_numpy():
    code = """
        import time, numpy
        before = time.perf_counter()
        import fastnn
        print(time.perf_counter() - before)
    """
    assert statistics.median(float(printed(code)) for _ in range(7)) < 0.030


@pytest.mark.parametrize("threads", ["1", "2"])
def test_small_numbers_are_not_flushed_to_zero(threads):
    # as they would be with -ffast-math anywhere among the linked objects
    code = """
        import numpy as np
        import fastnn

        x = np.full((600, 600), 5e-324)
        y = fastnn.functional.relu(x)
        fastnn.functional.dense_forward(y, np.ones((600, 600)))
        assert float("5e-324") * 1.0 != 0 and (y == 5e-324).all() and (x + 0 == 5e-324).all()
        assert np.float32(1e-45) * np.float32(1) != 0
    """
    printed(code, FASTNN_NUM_THREADS=threads)


# The baseline: what runs on every CPU -------------------------------------------------------------

NEHALEM = ("qemu-x86_64", "-cpu", "Nehalem")  # of 2008: SSE4.2, which NumPy wants, and no AVX
on_x86 = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="this is no x86-64"
)
emulated = pytest.mark.skipif(not shutil.which(NEHALEM[0]), reason=f"{NEHALEM[0]} is not installed")


def on_old_cpu(*arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """`python ...` on an emulated CPU where an instruction of AVX ends the process with SIGILL."""
    return subprocess.run(
        [*NEHALEM, sys.executable, *arguments],
        env={**inherited(), "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


@on_x86
@pytest.mark.skipif(not shutil.which("objdump"), reason="objdump is not installed")
def test_only_the_vector_code_has_instructions_above_the_baseline():
    above = re.compile(
        r"\tv(?!err|erw)[a-z0-9]+\s", re.MULTILINE
    )  # VEX and EVEX: their names begin with v
    found = {}
    for path in sorted(PACKAGE.glob("_kernels/*.so")):
        command = ["objdump", "-d", "--no-show-raw-insn", str(path)]
        code = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found[path.name.split(".")[0]] = bool(above.search(code))
    assert found.pop("machine")  # it holds the variants, among which it chooses at import
    assert not any(found.values()), found


@on_x86
@emulated
def test_import_and_training_work_on_an_old_cpu():
    code = """
        import sys
        import numpy as np
        import fastnn

        assert fastnn.available_isas() == ["baseline"], fastnn.available_isas()
        x = np.random.default_rng(0).standard_normal((64, 30), dtype="float32")
        layers = [fastnn.Dense(20), fastnn.BatchNorm(), fastnn.Tanh(), fastnn.Dense(3)]
        model = fastnn.Sequential(layers, seed=0)
        history = model.fit(x, np.arange(64) % 3, batch_size=32, epochs=2, verbose=False)
        assert np.isfinite(history["loss"]).all()
        print("trained", flush=True)
        import ctypes, mmap
        memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        memory.write(bytes.fromhex("c5fc77 c3"))  # vzeroupper; ret
        ctypes.CFUNCTYPE(None)(ctypes.addressof(ctypes.c_char.from_buffer(memory)))()
        print("and AVX was not noticed")
    """
    done = on_old_cpu("-c", textwrap.dedent(code))
    assert done.stdout.split("\n")[0] == "trained", done.stderr
    assert "not noticed" not in done.stdout and done.returncode < 0


@on_x86
@emulated
@pytest.mark.slow
def test_kernels_work_on_an_old_cpu():
    tests = [str(Path(__file__).with_name(f"test_{name}.py")) for name in ("kernels", "functional")]
    quietly = ("-q", "-p", "no:cacheprovider", "-m", "not slow", "-k", "not fork and not process")
    done = on_old_cpu("-m", "pytest", *quietly, *tests, timeout=1800)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert re.search(r"\b[1-9]\d* passed", done.stdout)


# Builds -------------------------------------------------------------------------------------------


def test_a_free_threaded_python_is_refused():
    if not (REPOSITORY / "setup.py").is_file():
        pytest.skip("the sources are not here")
    code = f"""
        import runpy, sys, sysconfig
        from unittest.mock import MagicMock

        tools = ["Cython", "Cython.Build", "setuptools", "setuptools.errors", "setuptools.command"]
        tools += [f"setuptools.command.{{name}}" for name in ("bdist_wheel", "build_ext", "sdist")]
        sys.modules.update({{tool: MagicMock() for tool in tools}})  # they need not be installed
        sysconfig.get_config_vars()["Py_GIL_DISABLED"] = 1
        runpy.run_path({str(REPOSITORY / "setup.py")!r})
    """
    done = python("-c", textwrap.dedent(code))
    assert done.returncode == 1
    assert (
        done.stderr.startswith("fastnn needs Python's global lock") and done.stderr.count("\n") == 1
    )


@pytest.fixture(scope="module")
def wheel_without_openmp(tmp_path_factory):
    """A wheel built from a copy of the sources with FASTNN_NO_OPENMP=1."""
    if not (REPOSITORY / "setup.py").is_file():
        pytest.skip("the sources are not here")
    if find_spec("pip") is None or not any(map(shutil.which, ("cc", "gcc", "clang"))):
        pytest.skip("a build needs pip and a C compiler")
    folder = tmp_path_factory.mktemp("build")
    ignored = shutil.ignore_patterns("*.so", "__pycache__", "*.egg-info")
    shutil.copytree(REPOSITORY / "fastnn", folder / "source/fastnn", ignore=ignored)
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, folder / "source")
    command = ("-m", "pip", "wheel", "--no-deps", "-w", str(folder), str(folder / "source"))
    done = python(*command, timeout=900, FASTNN_NO_OPENMP="1")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (wheel,) = folder.glob("fastnn-*.whl")
    return wheel


@pytest.mark.slow
def test_wheel_is_small_and_holds_no_sources(wheel_without_openmp):
    run_time = (
        150_000  # of OpenMP, which the published wheel holds too (.ci/wheel); compressed by zopfli
    )
    assert 0.95 * (wheel_without_openmp.stat().st_size + run_time) <= 2_000_000
    with zipfile.ZipFile(wheel_without_openmp) as wheel:
        names = [name for name in wheel.namelist() if ".dist-info/" not in name]
    kinds = {re.sub(r".*\.", ".", name) for name in names}
    assert kinds <= {".py", ".pyi", ".typed", ".html", ".so", ".pyd"}, sorted(names)
    assert {"fastnn/py.typed", "fastnn/__init__.pyi", "fastnn/cli/__init__.py"} <= set(names)


@pytest.mark.slow
def test_a_build_without_openmp_works_on_one_thread(wheel_without_openmp, tmp_path):
    with zipfile.ZipFile(wheel_without_openmp) as wheel:
        wheel.extractall(tmp_path / "site")
    environment = {"PYTHONPATH": str(tmp_path / "site"), "FASTNN_NUM_THREADS": "4"}
    code = """
        import fastnn
        from fastnn._kernels import machine
        fastnn.set_num_threads(4)
        print(fastnn.__file__, machine.openmp(), fastnn.get_num_threads())
    """
    file, openmp, threads = printed(code, **environment).rsplit(maxsplit=2)
    assert Path(file).is_relative_to(tmp_path / "site")
    assert (openmp, threads) == ("0", "1")

    # a copy of the tests, so that nothing of the repository comes before the wheel
    shutil.copytree(REPOSITORY / "tests", tmp_path / "tests")
    tests = [str(tmp_path / "tests" / f"test_{name}.py") for name in ("functional", "step")]
    quietly = ("-q", "-p", "no:cacheprovider", "-m", "not slow")
    done = python("-m", "pytest", *quietly, *tests, timeout=900, **environment)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert re.search(r"\b[1-9]\d* passed", done.stdout)


@pytest.mark.slow
def test_a_build_without_openmp_gives_the_same_bits(wheel_without_openmp, tmp_path):
    with zipfile.ZipFile(wheel_without_openmp) as wheel:
        wheel.extractall(tmp_path / "site")
    shutil.copytree(REPOSITORY / "tests", tmp_path / "tests")
    code = f"""
        import hashlib, sys
        sys.path.insert(0, {str(tmp_path / "tests")!r})
        import numpy as np
        import fastnn
        from cases import CASES
        from fastnn import functional
        from fastnn._kernels import machine

        digest, results = hashlib.sha256(), 0
        for isa in fastnn.available_isas():
            machine.use_isa(isa)
            for case in CASES:
                for dtype in (np.float32, np.float64):
                    for shape in case.shapes:
                        for result in case.results(functional, case.example(shape, dtype)):
                            digest.update(np.asarray(result).tobytes())
                            results += 1
        print(machine.openmp() > 0, results, digest.hexdigest())
    """
    threads, count, bits = printed(code, FASTNN_NUM_THREADS="2").split()
    alone, *others = printed(code, PYTHONPATH=str(tmp_path / "site")).split()
    assert (threads, alone) == ("True", "False")
    assert int(count) > 1000
    assert others == [count, bits]
