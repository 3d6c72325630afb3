"""Pages of the API made from what fastnn declares public, and links to whatever of it a text names.

`fastnn.__init__` lists its modules and names; a page is written for each module, so that nothing public
is left out and a new module needs no page of its own. A class is shown under the name by which users
import it (`fastnn.Dense`), with what it adds to the public classes that it is derived from.

Text between single backticks that starts with "fastnn." must name something that exists; other names
are links where they are public, and plain code where not.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from sphinx.util.nodes import make_refnode

import fastnn

# In the order in which a reader wants them; what is not listed comes after.
FIRST = (
    "models", "layers", "losses", "optimizers", "initializers", "functional", "reference", "training",
)  # fmt: skip
# Modules whose other names serve fastnn itself.
ONLY = {"training": ("Training",)}
# Methods of `Sequential` that other modules call.
INTERNAL = {
    "backward_all", "chunks", "configured", "evaluate_prepared", "forward_all", "mark_gradients",
}  # fmt: skip


def modules() -> list[str]:
    """The modules that have a page."""
    there = dict.fromkeys([*fastnn._HOME, *fastnn._MODULES])
    return [name for name in FIRST if name in there] + sorted(there.keys() - set(FIRST))


def members(module: ModuleType) -> dict[str, Any]:
    """The public functions and classes of a module by their full names, in its order."""
    short = module.__name__.rpartition(".")[2]
    names = ONLY.get(short) or getattr(module, "__all__", None)
    if names is None:
        names = [
            name
            for name, value in vars(module).items()
            if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
        ]
    names = dict.fromkeys([*fastnn._HOME.get(short, ()), *names])
    found = {}
    for name in names:
        value = getattr(module, name)
        if inspect.isclass(value) or inspect.isroutine(value):
            home = "fastnn" if fastnn._WHERE.get(name) == short else module.__name__
            found[f"{home}.{name}"] = value
    return found


def additions(cls: type, public: set[type]) -> list[str]:
    """The documented members of a class that its public bases do not have."""
    inherited = {name for base in cls.__mro__[1:] if base in public for name in dir(base)}
    found: dict[str, None] = {}
    for base in cls.__mro__:
        if not base.__module__.startswith("fastnn") or (base is not cls and base in public):
            continue
        for name, value in vars(base).items():
            documented = inspect.isroutine(value) or isinstance(
                value, property | classmethod | staticmethod
            )
            hidden = name.startswith("_") or name in INTERNAL
            if documented and not hidden and inspect.getdoc(getattr(base, name)):
                found[name] = None
    return [name for name in found if name not in inherited]


def family(module: ModuleType, value: Any) -> str:
    """The file of a package that a member comes from, "" for its base classes: a heading."""
    inside = value.__module__.removeprefix(f"{module.__name__}.")
    return "" if inside in (value.__module__, "base") else inside


def position(item: tuple[str, Any]) -> int:
    """Where a function or class stands in its file: forward before backward."""
    name, value = item
    return list(vars(sys.modules[value.__module__])).index(name.rpartition(".")[2])


def page(module: ModuleType, public: set[type]) -> Iterator[str]:
    """The lines of a module's page."""
    yield from [module.__name__, "=" * len(module.__name__), ""]
    yield from [f".. automodule:: {module.__name__}", ""]
    families: dict[str, list[tuple[str, Any]]] = {}
    for name, value in members(module).items():
        families.setdefault(family(module, value), []).append((name, value))
    for title in sorted(families):
        if title and len(families) > 1:
            yield from [title.capitalize(), "-" * len(title), ""]
        for name, value in sorted(families[title], key=position) if title else families[title]:
            yield from directive(name, value, public)


def directive(name: str, value: Any, public: set[type]) -> Iterator[str]:
    """The lines for one function or class."""
    if not isinstance(value, type):
        yield f".. autofunction:: {name}"
    else:
        kind = "autoexception" if issubclass(value, BaseException) else "autoclass"
        yield f".. {kind}:: {name}"
        if added := additions(value, public):
            yield f"   :members: {', '.join(added)}"
    yield ""


def write_pages(app: Any, config: Any) -> None:
    """Write api/*.rst, those that changed."""
    folder = Path(app.srcdir, "api")
    folder.mkdir(exist_ok=True)
    loaded = {name: import_module(f"fastnn.{name}") for name in modules()}
    public = {v for m in loaded.values() for v in members(m).values() if isinstance(v, type)}
    pages = {f"{name}.rst": "\n".join(page(m, public)) for name, m in loaded.items()}
    first = {name: inspect.getdoc(m).partition("\n\n")[0] for name, m in loaded.items()}
    rows = [
        f":doc:`{name} <{name}>`\n   {text.replace(chr(10), ' ')}\n" for name, text in first.items()
    ]
    toc = ["", ".. toctree::", "   :hidden:", "", *(f"   {name}" for name in loaded), ""]
    head = ["API", "===", "", f".. automodule:: {fastnn.__name__}", ""]
    pages["index.rst"] = "\n".join([*head, *rows, *toc])
    for old in folder.glob("*.rst"):
        if old.name not in pages:
            old.unlink()
    for name, text in pages.items():
        path = folder / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def resolve(app: Any, env: Any, node: Any, contnode: Any) -> Any:
    """Links for names that Sphinx does not know under this spelling."""
    if node["refdomain"] != "py":
        return None
    target = node["reftarget"].removesuffix("()")
    ours = target.startswith("fastnn.")
    parts = target.removeprefix("fastnn.").split(".")
    try:
        there, value = ["fastnn"], fastnn
        for part in parts:
            try:
                value = getattr(value, part)
            except AttributeError:
                value = import_module(".".join([*there, part]))
            there.append(part)
    except (ImportError, TypeError, ValueError):
        return None if ours else contnode
    objects = env.get_domain("py").objects
    # fastnn.models.Sequential.fit is shown as fastnn.Sequential.fit
    shorter = [f"fastnn.{'.'.join(parts[i:])}" for i in range(len(parts))]
    for name in shorter:
        if name in objects:
            entry = objects[name]
            return make_refnode(
                app.builder, node["refdoc"], entry.docname, entry.node_id, contnode, name
            )
    return contnode


def escape(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Docstrings are written for `help`: |x| is a modulus there, and (N, *shape) a shape."""
    for i, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            parts = line.split("`")  # those at odd places are code
            parts[::2] = [re.sub(r"\||\*(?=\w)", r"\\\g<0>", part) for part in parts[::2]]
            lines[i] = "`".join(parts)


def setup(app: Any) -> dict[str, Any]:
    app.connect("config-inited", write_pages)
    app.connect("autodoc-process-docstring", escape, priority=400)  # before numpydoc
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
