"""What a package costs by being there: the size of its wheel and of what is installed."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import fastnn

# A large library is compressed in samples, for PyTorch's would take half a minute.
WHOLE, SAMPLES, SAMPLE = 4 << 20, 16, 256 << 10
# What belongs to one name: without the second jax computes nothing.
DISTRIBUTIONS = {
    "fastnn": ("fastnn",),
    "numpy": ("numpy",),
    "torch": ("torch",),
    "jax": ("jax", "jaxlib"),
    "sklearn": ("scikit-learn",),
}
PACKAGE = Path(__file__).resolve().parents[1]  # the fastnn that runs
# What a wheel takes of it. The wheel then adds an OpenMP run-time, which a checkout has no copy of.
KINDS = {".py", ".pyi", ".typed", ".so", ".pyd", ".html"}


def footprint(name: str) -> dict[str, Any]:
    """Sizes in bytes of an importable package: of its wheel, its files, and these with what it requires.

    Returns
    -------
    dict
        ``wheel``: its files compressed as a wheel compresses them (large ones by samples, so it is
        an estimate, good to a few percent); ``installed``; ``with_requirements``; ``requires``: the
        names of the distributions counted beside it.

    Raises
    ------
    importlib.metadata.PackageNotFoundError
        It is not installed.

    Examples
    --------
    >>> sizes = footprint("numpy")
    >>> sizes["wheel"] < sizes["installed"] <= sizes["with_requirements"]
    True
    """
    own = DISTRIBUTIONS[name]
    everything = closure(own)
    files = {each: _files(each) for each in everything}
    sizes = {each: sum(path.stat().st_size for path in files[each]) for each in everything}
    return {
        "wheel": sum(compressed(files[each]) for each in own),
        "installed": sum(sizes[each] for each in own),
        "with_requirements": sum(sizes.values()),
        "requires": sorted(everything - set(own)),
    }


def versions(name: str) -> dict[str, str]:
    """Names and versions of its distributions, of those that are installed."""
    if name == "fastnn":
        return {"fastnn": fastnn.__version__, "isa": fastnn.isa()}
    found = {}
    for distribution in DISTRIBUTIONS[name]:
        with suppress(metadata.PackageNotFoundError):
            found[distribution] = metadata.version(distribution)
    return found


def closure(names: Iterable[str]) -> set[str]:
    """These distributions and all that they require here, extras left out."""
    found: set[str] = set()
    todo = list(names)
    while todo:
        name = todo.pop()
        if name in found:
            continue
        found.add(name)
        for requirement in _requires(name):
            wanted, _, marker = requirement.partition(";")
            match = re.match(r"[A-Za-z0-9._-]+", wanted)
            if match is None or "extra" in marker:
                continue
            required = re.sub(r"[-_.]+", "-", match[0]).lower()
            try:  # one for another platform is not there
                metadata.version(required)
            except metadata.PackageNotFoundError:
                continue
            todo.append(required)
    return found


def _requires(name: str) -> Iterable[str]:
    try:
        return metadata.requires(name) or ()
    except metadata.PackageNotFoundError:
        if name == "fastnn":  # run from its sources, which are not installed
            return ("numpy", "safetensors", "tqdm")
        raise


def _files(name: str) -> list[Path]:
    """What a distribution installed, bytecode apart, which is made here.

    fastnn may run from a checkout, with another one installed beside it or none, or with a list of its
    sources: a list counts only where it names the compiled modules of the package that runs.
    """
    try:
        listed = metadata.files(name) or ()
    except metadata.PackageNotFoundError:
        if name != "fastnn":
            raise
        listed = ()
    paths = [Path(str(file.locate())) for file in listed]
    if name == "fastnn" and not any(
        path.suffix in {".so", ".pyd"} and PACKAGE in path.resolve().parents for path in paths
    ):
        paths = [
            path for path in PACKAGE.rglob("*") if path.suffix in KINDS or path.name == "py.typed"
        ]
    return [path for path in paths if path.suffix != ".pyc" and path.is_file()]


def compressed(paths: Iterable[Path]) -> int:
    """Bytes of these files after deflate, as in a wheel."""
    total = 0.0
    for path in paths:
        size = path.stat().st_size
        with path.open("rb") as file:
            if size <= WHOLE:
                total += len(zlib.compress(file.read()))
                continue
            packed = 0
            for i in range(SAMPLES):
                file.seek(i * (size - SAMPLE) // (SAMPLES - 1))
                packed += len(zlib.compress(file.read(SAMPLE)))
            total += packed * size / (SAMPLES * SAMPLE)
    return round(total)
