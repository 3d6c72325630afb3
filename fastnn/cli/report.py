"""`fastnn train --report`: where the page goes, what is recorded for it, and what is on it."""

from __future__ import annotations

import math
import zipfile
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastnn.cli.data import DIGITS, keep_inputs
from fastnn.files import writable_folder

if TYPE_CHECKING:
    from fastnn.diagnosis import Finding
    from fastnn.models import Sequential
    from fastnn.recovery import NonFiniteError

# The name of the page in the folder of --out.
REPORT = "report.html"

# Rows that the gradients are looked at with.
PROBED = 256


def report_path(wanted: str, out: str | None, source: str) -> Path:
    """Where the page goes, proved writable before any time is spent on training.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    OSError
        The folder cannot be written.
    ValueError
        No place is known, the name is not that of a page, or it is that of the data.
    """
    from fastnn.report.report import check_ending

    if not wanted and out is None:
        raise ValueError("where to? give --report PAGE.html, or --out DIR")
    path = Path(wanted) if wanted else Path(str(out)) / REPORT
    check_ending(path)
    if find_spec("matplotlib") is None:
        raise ImportError(
            "--report draws with matplotlib, which is not installed: pip install 'fastnn[plot]'"
        )
    keep_inputs([source], [path])
    writable_folder(path.parent)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, a file is to be written there")
    return path


def images_of(
    wanted: tuple[int, ...] | None, source: str, features: int, table: bool
) -> tuple[int, ...] | None:
    """How a row of the data becomes an image; None where it is none.

    As the user says, or as the images of an .npz are shaped, or the 8×8 of the digits. A square
    number of whole numbers from 0 to 255 is taken for an image too: that is how MNIST is stored.

    Raises
    ------
    ValueError
        --image-shape does not fit the data.
    """
    if wanted is not None:
        if table or math.prod(wanted) != features:
            what = f"--image-shape {','.join(map(str, wanted))}"
            inputs = "a table" if table else f"rows of {features:,} numbers"
            raise ValueError(f"{what} is of {math.prod(wanted):,} numbers, the data are {inputs}")
        return wanted
    if table:
        return None
    if source == DIGITS:
        return 8, 8
    shape, bytes_ = _stored(source)
    if len(shape) == 2 or (len(shape) == 3 and 3 in (shape[0], shape[2])):
        return shape
    side = math.isqrt(features)
    return (side, side) if bytes_ and side * side == features and side >= 5 else None


def _stored(source: str) -> tuple[tuple[int, ...], bool]:
    """The shape of a row of X, and whether it holds bytes: from the header alone."""
    from numpy.lib import format as npy

    with zipfile.ZipFile(source) as archive:
        name = next(n for n in ("X_train.npy", "X.npy") if n in archive.namelist())
        with archive.open(name) as file:
            read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
            version = npy.read_magic(file)
            if version not in read:
                return (), False
            shape, _, dtype = read[version](file)
    return tuple(shape[1:]), dtype.name == "uint8"


class RunReport:
    """The page of one run: made before the training, so that it can look on, written after it.

    Parameters
    ----------
    path : Path
        Of `report_path`.
    X, y : arrays
        What is trained on, prepared.
    image_shape : tuple of int or None
        Of `images_of`.
    title, subtitle : str
    facts : dict
        How the run is made.

    Attributes
    ----------
    recorder : Recorder
        A callback for the fit.
    """

    def __init__(
        self,
        path: Path,
        X: Any,
        y: Any,
        image_shape: tuple[int, ...] | None,
        title: str,
        subtitle: str,
        facts: dict[str, object],
    ) -> None:
        from fastnn import Recorder

        self.path = path
        self.recorder = Recorder(probe=(X[:PROBED], y[:PROBED]))
        self._trained_on = X, y
        self._image_shape = image_shape
        self._title, self._subtitle = title, subtitle
        self._facts = facts

    def write(self, model: Sequential, rows: tuple[Any, Any], split: str) -> None:
        """The page of a run that went to its end; the model is judged on `rows`."""
        import fastnn

        X, y = self._trained_on
        findings = fastnn.diagnose(history=model.history, model=model, x=X, y=y)
        self._write(model, findings, split, x=rows[0], y=rows[1], image_shape=self._image_shape)

    def write_failure(self, model: Sequential, error: NonFiniteError, split: str) -> None:
        """The page of a run that became NaN or infinite: what led there, without the model."""
        import fastnn

        findings = fastnn.diagnose(history=model.history, error=error)
        self._write(model, findings, split)

    def _write(
        self, model: Sequential, findings: list[Finding], split: str, **options: Any
    ) -> None:
        import fastnn

        assert model.history is not None
        made = {
            **self._facts,
            "fastnn": f"{fastnn.__version__}, {fastnn.isa()}, threads: {fastnn.get_num_threads()}",
            "written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        }
        fastnn.write_report(
            self.path, model.history, model=model, findings=findings, recorder=self.recorder,
            split=split, title=self._title, subtitle=self._subtitle, facts=made, **options,
        )  # fmt: skip
        print(f"report: {self.path}")
