"""The documentation: its examples run, its commands are understood, its links lead somewhere."""

from __future__ import annotations

import doctest
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from fastnn import __version__
from fastnn.cli import _parser

ROOT = Path(__file__).parents[1]
# What is part of the repository only, not of an installed wheel.
NEEDED = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff", "docs")
if not all((ROOT / name).exists() for name in NEEDED):
    pytest.skip("the documentation is not here: not a checkout", allow_module_level=True)
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
#: Libraries that an example may need and a machine may lack.
OPTIONAL = {"jax", "matplotlib", "pandas", "polars", "sklearn", "torch"}


class Fence(NamedTuple):
    """A block of code between ``` lines."""

    language: str
    line: int
    code: str


def fences(page: Path) -> Iterator[Fence]:
    inside, language, start, lines = "", "", 0, []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        mark = re.match(r"(`{3,}|:{3,})(.*)", line)
        if not inside and mark:
            inside, language, start, lines = mark[1], mark[2].strip(), number, []
        elif inside and line.strip() == inside:
            yield Fence(language, start, "\n".join(lines) + "\n")
            inside = ""
        elif inside:
            lines.append(line)
    assert not inside, f"{page}: the block from line {start} on has no end"


def with_code(*languages: str) -> list[Path]:
    return [page for page in PAGES if any(f.language in languages for f in fences(page))]


@pytest.mark.parametrize("page", with_code("python", "pycon"), ids=lambda page: page.stem)
def test_the_examples_of_a_page_run_in_its_order(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, thread_count: None
) -> None:
    pytest.importorskip("fastnn")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    names: dict[str, object] = {"__name__": "example"}
    left_out = []
    for fence in fences(page):
        where = f"{page.name}, line {fence.line}"
        try:
            if fence.language == "python":
                # as many lines before it as there are in the page, so that a traceback shows the line
                source = "\n" * fence.line + fence.code
                exec(compile(source, str(page), "exec"), names)
            elif fence.language == "pycon":
                flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
                test = doctest.DocTestParser().get_doctest(fence.code, names, where, str(page), 0)
                report: list[str] = []
                doctest.DocTestRunner(optionflags=flags).run(
                    test, out=report.append, clear_globs=False
                )
                assert not report, "".join(report)
                names = test.globs
        except ModuleNotFoundError as error:
            if error.name not in OPTIONAL:
                raise
            left_out.append(f"{where}: {error.name} is not installed")
    if left_out:
        pytest.skip("; ".join(left_out))


def commands(page: Path) -> Iterator[tuple[int, list[str]]]:
    """The calls of fastnn in the shell blocks of a page."""
    for fence in fences(page):
        if fence.language == "sh":
            for number, line in enumerate(fence.code.splitlines(), fence.line + 1):
                for part in line.split("&&"):
                    words = shlex.split(part, comments=True)
                    while words and ("=" in words[0] or words[0].endswith("/fastnn")):
                        words = words[1:] if "=" in words[0] else ["fastnn", *words[1:]]
                    if words[:1] == ["fastnn"] and "COMMAND" not in words:
                        yield number, words[1:]


@pytest.mark.parametrize("page", with_code("sh"), ids=lambda page: page.stem)
def test_the_commands_of_a_page_are_understood(page: Path) -> None:
    for line, words in commands(page):
        try:
            _parser().parse_args(words)
        except (SystemExit, ValueError) as error:
            pytest.fail(f"{page.name}, line {line}: fastnn {' '.join(words)}: {error}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_within_the_repository_lead_to_files(page: Path) -> None:
    text = re.sub(r"^(`{3,}|:{3,}).*?^\1", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        if not re.match(r"[a-z]+:", target):
            made = (page.parent / target).parent.name == "api"  # by docs/_ext/public_api.py
            assert made or (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_page_is_in_the_table_of_contents() -> None:
    listed = set()
    for fence in fences(ROOT / "docs" / "index.md"):
        if fence.language == "{toctree}":
            listed |= set(fence.code.splitlines())
    there = {page.stem for page in (ROOT / "docs").glob("*.md")} - {"index"}
    assert there <= listed, (
        f"not in a toctree of docs/index.md: {', '.join(sorted(there - listed))}"
    )


def test_citation_and_changelog_know_the_version() -> None:
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert __version__ in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
