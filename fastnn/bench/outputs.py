"""Where a run leaves its figures: a folder, or files by name, tried out before anything is measured."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastnn.bench import report
from fastnn.files import writable_folder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Draw = Callable[[dict[str, Any]], "Figure"]


class Outputs:
    """The files of one run.

    Parameters
    ----------
    folder : path, optional
        Takes ``<stem>.json``, ``<stem>.csv`` and, with matplotlib, ``<stem>.png``; created where it
        is missing.
    stem : str
    json, csv, png : path, optional
        Single files, in place of those of the folder.
    draw : callable, optional
        Makes the picture of a document; None where there is none of this kind of run.
    note : callable
        Is told what will be missing.

    Raises
    ------
    OSError
        A folder cannot be written.
    ImportError
        `png` is asked for, and matplotlib is not installed.
    ValueError
        `png` is asked for, and does not end as a picture, or this kind of run has no picture.
    """

    def __init__(
        self,
        folder: str | None,
        stem: str,
        *,
        json: str | None = None,
        csv: str | None = None,
        png: str | None = None,
        draw: Draw | None = None,
        note: Callable[[str], None],
    ) -> None:
        self.draw = draw
        if png is not None:
            _check_picture(png, draw)
        if folder is not None:
            base = writable_folder(folder)
            json, csv = json or str(base / f"{stem}.json"), csv or str(base / f"{stem}.csv")
            if png is None and draw is not None:
                try:
                    _check_picture(png := str(base / f"{stem}.png"), draw)
                except ImportError as error:
                    note(f"{error}; going on without the picture")
                    png = None
        self.json, self.csv, self.png = json, csv, png
        for path in (json, csv, png):
            if path is not None:
                _check_writable(path)

    def __bool__(self) -> bool:
        return any((self.json, self.csv, self.png))

    def write(self, document: dict[str, Any], picture: bool = True) -> None:
        """Write everything; a picture where there is something to draw."""
        if self.json:
            report.write_json(self.json, document)
        if self.csv:
            pinned = not document["settings"].get("unpinned")
            report.write_csv(self.csv, document["results"], pinned)
        if picture and self.png and self.draw is not None:
            from fastnn.plots.canvas import save

            try:
                figure = self.draw(document)
            except ValueError:  # nothing to draw: the run ended before its first figure
                return
            save(figure, self.png)

    def written(self) -> str:
        """A line that names the files, or says how to get some."""
        paths = [path for path in (self.json, self.csv, self.png) if path and os.path.exists(path)]
        if not paths:
            return "nothing written (--out DIR keeps the figures and the picture)"
        return f"written: {', '.join(paths)}"


def _check_picture(path: str, draw: Draw | None) -> None:
    from fastnn.plots.canvas import FORMATS, new_figure

    if draw is None:
        raise ValueError("there is no picture of this kind of run: leave out --png")
    if Path(path).suffix.lower() not in FORMATS:
        raise ValueError(f"the picture {path!r} must end in one of {', '.join(FORMATS)}")
    new_figure(1, 1)  # raises where matplotlib is missing


def _check_writable(path: str) -> None:
    """Prove that a file can be made where `path` is to be."""
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(f"{path} is a folder, expected the name of a file to write")
    if target.exists() and not target.is_file():
        return  # a pipe or a terminal
    try:
        with tempfile.TemporaryFile(dir=target.parent):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(f"cannot write {path} ({reason}); choose another place") from error
