"""Tables from CSV and Parquet files, read by polars (the `table` extra)."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.preprocessing.columns import Columns, unknown

if TYPE_CHECKING:
    import polars

# Cells that stand for a missing value, as spreadsheets and statistics packages write them.
MISSING = ["", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "?"]

SEPARATORS = ",;\t|"


def read_table(
    path: str | os.PathLike[str], *, text: Iterable[str] = (), drop: Iterable[str] = ()
) -> Columns:
    """Read a `.csv` or `.parquet` file into plain columns.

    A CSV file has one line of column names, is UTF-8, and may use a comma, semicolon, tab or bar
    between cells; space round a cell is ignored, and the cells of `MISSING` count as missing. A
    column of a CSV file is numeric if all its cells are numbers, else text.

    Parameters
    ----------
    path : path
    text : names
        Columns to read as text even where they look like numbers ("007" stays "007").
    drop : names
        Columns to leave out.

    Returns
    -------
    dict of str to ndarray
        Numeric columns (integers, or float64 with NaN for missing values) and text columns
        (object arrays of str, None for missing values; booleans are "true" and "false").

    Raises
    ------
    ImportError
        polars is not installed.
    OSError
        The file cannot be read.
    ValueError
        It is not a table, has no rows, lacks a column of `drop`, or holds columns of dates or
        lists that are not dropped.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder, "pets.csv")
    ...     _ = file.write_text("kind,weight\\ncat,4.5\\ndog,NA\\n")
    ...     columns = read_table(file)
    >>> columns["kind"].tolist(), columns["weight"].tolist()
    (['cat', 'dog'], [4.5, nan])
    """
    pl = _polars()
    path = Path(path)
    content = path.read_bytes()  # a missing or unreadable file is reported by Python, in its words
    if not content:
        raise ValueError(f"{path} is empty")
    try:
        if path.suffix.lower() == ".parquet":
            frame = pl.read_parquet(io.BytesIO(content))
        else:
            frame = _read_csv(pl, content, list(text))
    except pl.exceptions.PolarsError as error:
        kind = "Parquet file" if path.suffix.lower() == ".parquet" else "CSV table"
        raise ValueError(f"{path} cannot be read as a {kind}: {_first_line(error)}") from None
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 (byte {error.start}): save it as UTF-8 text"
        ) from None
    for name in drop:
        if name not in frame.columns:
            raise ValueError(unknown("column", name, frame.columns))
    frame = frame.drop(list(drop))
    if not frame.width or not frame.height:
        raise ValueError(
            f"{path} has no rows of data ({frame.width} columns, {frame.height} rows below the "
            "line of names)"
        )
    return {column.name: _plain(pl, column) for column in frame.get_columns()}


def _read_csv(pl: Any, content: bytes, text: list[str]) -> polars.DataFrame:
    content = content.removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n")
    content.decode("utf-8")
    first = content.split(b"\n", 1)[0].decode().rstrip("\r")
    separator = max(SEPARATORS, key=first.count)  # the comma where none occurs
    names = [name.strip() for name in next(csv.reader([first], delimiter=separator), [])]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"the column name {twice[0]!r} stands twice in the first line")
    frame = pl.read_csv(content, separator=separator, infer_schema=False)
    frame = frame.rename(str.strip)
    return frame.select(_infer(pl, column, column.name in text) for column in frame.get_columns())


def _infer(pl: Any, column: polars.Series, text: bool) -> polars.Series:
    """A column of cells as whole numbers, as numbers, or as texts: what all of them allow.

    Polars' own inference takes " 1" for a text, and so would quietly make classes of numbers.
    """
    cells = column.str.strip_chars()
    cells = cells.set(cells.is_in(MISSING), None)
    lower = cells.str.to_lowercase()
    if lower.drop_nulls().is_in(["true", "false"]).all():
        return lower  # one spelling, that of a Parquet file's booleans
    if not text and cells.null_count() < len(cells):
        for dtype in (pl.Int64, pl.Float64):
            numbers = cells.cast(dtype, strict=False)
            if numbers.null_count() == cells.null_count():
                return numbers
    return cells


def _plain(pl: Any, column: polars.Series) -> np.ndarray:
    """One column without polars: numbers, or an object array of str and None."""
    dtype = column.dtype
    if isinstance(dtype, pl.Decimal) or dtype == pl.Int128:
        column = column.cast(pl.Float64)
    elif dtype in (pl.Boolean, pl.Categorical, pl.Enum) or isinstance(
        dtype, (pl.Categorical, pl.Enum)
    ):
        column = column.cast(pl.String)
    elif dtype == pl.Null:  # a column of missing values has no type
        column = column.cast(pl.Float64)
    elif not dtype.is_numeric() and dtype != pl.String:
        raise ValueError(
            f"column {column.name!r} holds {dtype} values, expected numbers or texts; turn them "
            f"into numbers, or leave the column out (on the command line --drop {column.name})"
        )
    if column.dtype == pl.String:
        texts = np.empty(len(column), object)
        texts[:] = column.to_list()
        return texts
    if column.null_count():
        return column.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    return column.to_numpy()


def _polars() -> Any:
    try:
        import polars
    except ImportError:
        raise ImportError(
            "reading tables needs polars, which is not installed: pip install 'fastnn[table]'"
        ) from None
    return polars


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]
