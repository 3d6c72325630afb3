"""Writing files so that what was there before is never lost.

A file is written under a temporary name beside its destination, synced to the disk, and renamed:
whoever looks finds the old file or the new one, never half of one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


@contextmanager
def replacing(path: str | os.PathLike[str], mode: str = "wb", **options: Any) -> Iterator[IO[Any]]:
    """Open a file that takes the place of `path` when the block ends without an error.

    Parameters
    ----------
    path : path
        The destination. A symbolic link is followed; what is not a regular file (a pipe, a
        terminal) cannot be replaced and is written to directly.
    mode, **options
        As in `open`; `mode` is a writing one.

    Raises
    ------
    OSError
        The folder cannot be written. The old file, if any, is untouched.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     note = pathlib.Path(folder, "note.txt")
    ...     with replacing(note, "w") as file:
    ...         _ = file.write("all of it")
    ...     note.read_text()
    'all of it'
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file() and not target.is_dir():
        with open(target, mode, **options) as file:
            yield file
        return
    if target.is_dir():
        raise IsADirectoryError(f"{path} is a folder, expected the name of a file to write")
    # Not tempfile.mkstemp: its files are private (0600) and would stay so after the renaming.
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        opened = open(temporary, mode, **options)  # noqa: SIM115
    except OSError as error:  # it names a file that the user has never heard of
        raise type(error)(error.errno, error.strerror, str(path)) from None
    try:
        with opened as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def writable_folder(path: str | os.PathLike[str]) -> Path:
    """Create the folder where it is missing and prove that a file can be written in it.

    For the start of a long job, so that the job does not end with "permission denied".

    Raises
    ------
    OSError
        With one line that says which folder and why.
    """
    import tempfile  # here, because `import fastnn.history` should not pay for it

    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(
            f"cannot write in the folder {str(path)!r} ({reason}); choose another one"
        ) from error
    return folder
