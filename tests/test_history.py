"""The record of a run, the files it goes to, and the progress bar."""

from __future__ import annotations

import io
import math
import os
import sys

import numpy as np
import pytest

from fastnn.files import replacing, writable_folder
from fastnn.history import COLUMNS, History
from fastnn.progress import Progress, write_line


def filled():
    history = History()
    history.append(epoch=1, loss=0.1 + 0.2, accuracy=np.float32(0.5), lr=0.1)
    history.append(epoch=np.int64(2), loss=1e-300, accuracy=0.75, lr=0.1, extra=7)
    return history


def test_mapping_of_columns():
    history = filled()
    assert list(history) == [*COLUMNS, "extra"] and len(history) == len(COLUMNS) + 1
    assert history["epoch"] == [1, 2] and history["loss"] == [0.1 + 0.2, 1e-300]
    assert math.isnan(history["val_loss"][0]) and math.isnan(history["extra"][0])
    assert history.epochs == 2 and history.last["extra"] == 7
    assert history.has("accuracy") and not history.has("val_accuracy") and not history.has("what")
    assert {len(column) for column in history.values()} == {2}
    assert "epochs=2" in repr(history) and "val_loss" not in repr(history)


def test_errors():
    history = History()
    with pytest.raises(TypeError, match="loss='low'"):
        history.append(epoch=1, loss="low")
    assert history.epochs == 0  # a refused row leaves no traces
    with pytest.raises(KeyError, match="no column 'los'"):
        history["los"]
    with pytest.raises(IndexError, match="no epoch has ended"):
        history.last  # noqa: B018


def test_csv_round_trip_is_exact(tmp_path):
    history = filled()
    history.to_csv(tmp_path / "h.csv")
    text = (tmp_path / "h.csv").read_text()
    assert text.splitlines()[0] == ",".join([*COLUMNS, "extra"])
    assert text.splitlines()[1].startswith("1,0.30000000000000004,0.5,,,0.1,")
    again = History.from_csv(tmp_path / "h.csv")
    assert list(again) == list(history)
    for name in history:
        np.testing.assert_array_equal(again[name], history[name])


@pytest.mark.parametrize(
    "text", ["a,b\n1,2\n", "epoch,loss\n1\n", "epoch,loss\n1,low\n", "epoch\n1,2\n"]
)
def test_foreign_csv(tmp_path, text):
    (tmp_path / "h.csv").write_text(text)
    with pytest.raises(ValueError, match="not a training history"):
        History.from_csv(tmp_path / "h.csv")


def test_replacing_keeps_the_old_file_when_writing_fails(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path, "w") as file:
        file.write("half of the n")
        raise RuntimeError
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file"]
    with replacing(path, "w") as file:
        file.write("new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new" and os.listdir(tmp_path) == ["file"]


def test_replacing_follows_links_and_honours_the_mask(tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    with replacing(tmp_path / "link", "w") as file:
        file.write("new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_text() == "new"
    mask = os.umask(0o027)
    try:
        with replacing(tmp_path / "fresh", "w") as file:
            file.write("x")
    finally:
        os.umask(mask)
    assert (tmp_path / "fresh").stat().st_mode & 0o777 == 0o640


def test_replacing_what_cannot_be_replaced(tmp_path):
    with pytest.raises(IsADirectoryError, match="is a folder"), replacing(tmp_path):
        pass
    with replacing(os.devnull, "w") as file:  # written to, not replaced
        file.write("x")
    assert not os.path.isfile(os.devnull)
    with pytest.raises(OSError), replacing(tmp_path / "no" / "such" / "folder"):
        pass


def test_writable_folder(tmp_path):
    assert writable_folder(tmp_path / "a" / "b").is_dir()
    assert os.listdir(tmp_path / "a" / "b") == []
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OSError, match="cannot write in the folder"):
            writable_folder(path)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_is_quiet_away_from_a_terminal(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    bar = Progress(2, 10, enabled="auto")
    assert not bar.enabled
    bar.update(1, 5, loss=0.1)
    bar.close()
    assert stream.getvalue() == ""


def test_a_disabled_bar_imports_nothing():
    import subprocess

    code = (
        "import sys; from fastnn.progress import Progress; b = Progress(1, 1, enabled=False); "
        "b.update(1, 1); b.close(); assert 'tqdm' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_progress_on_a_terminal(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    with Progress(2, 10) as bar:
        bar.update(1, 5, loss=0.125)
        bar.update(2, 10, loss=0.0625)  # the last step is drawn, however soon it comes
        shown = stream.getvalue()
    bar.close()
    assert "epoch 1/2" in shown and "5/20" in shown and "loss=0.125" in shown
    assert "epoch 2/2" in shown and "20/20" in shown


def test_progress_draws_rarely(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    with Progress(1, 100_000) as bar:
        for step in range(20_000):
            bar.update(1, step, loss=0.5)
        assert stream.getvalue().count("\r") < 200


def test_lines_go_to_standard_output(capsys):
    write_line("one line")
    assert capsys.readouterr().out == "one line\n"


def test_a_path_that_cannot_be_written_is_named_as_given(tmp_path):
    history = History()
    history.append(loss=1.0)
    with pytest.raises(FileNotFoundError, match=r"absent/h\.csv'$"):
        history.to_csv(tmp_path / "absent" / "h.csv")
