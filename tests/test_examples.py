"""The examples: each runs as a user would run it, and what it claims is true."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(path.stem for path in EXAMPLES.glob("*.py"))

pytestmark = pytest.mark.skipif(not SCRIPTS, reason="the examples are not part of a wheel")


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The output of each script by its name, and the folder with what they wrote; two at a time."""
    folder = tmp_path_factory.mktemp("examples")

    def run(name):
        done = subprocess.run(
            [sys.executable, EXAMPLES / f"{name}.py"],
            cwd=folder,
            env={**os.environ, "FASTNN_NUM_THREADS": "1", "PYTHONWARNINGS": "error::UserWarning"},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0 and not done.stderr, done.stderr
        return done.stdout

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(SCRIPTS, pool.map(run, SCRIPTS), strict=True)), folder / "runs" / "examples"


def numbers(text, pattern):
    found = re.search(pattern, text)
    assert found, f"no {pattern!r} in:\n{text}"
    return [float(number) for number in found.groups()]


def test_every_example_says_what_it_is_and_how_to_run_it():
    for name in SCRIPTS:
        text = (EXAMPLES / f"{name}.py").read_text()
        assert re.match(rf'"""[^\n]+\.\n\n    python examples/{name}\.py', text), name
        assert "def main(" in text


def test_digits(ran):
    outputs, folder = ran
    assert numbers(outputs["digits"], r"test accuracy ([\d.]+)%") > [97]
    said, truth = re.findall(r"(?:first digits|in truth): +(.*)", outputs["digits"])
    assert said == truth
    assert "Confusion matrix" in (folder / "digits.html").read_text()
    assert (folder / "digits.safetensors").exists()


def test_mini_batches_need_fewer_epochs_and_wander(ran):
    outputs, folder = ran
    pattern = r"([\d.]+) epochs, wanders by ([\d.e-]+)"
    full, small = re.findall(pattern, outputs["batch_against_mini_batches"])
    assert float(small[0]) < float(full[0]) / 10
    assert float(small[1]) > float(full[1])
    for name in ("batch_against_mini_batches", "batch_against_mini_batches_paths"):
        assert (folder / f"{name}.png").stat().st_size > 10_000


def test_batchnorm_allows_high_rates(ran):
    outputs, folder = ran
    text = outputs["batchnorm_learning_rates"]
    (without,) = numbers(text, r"reaches 90% without batch norm: ([\d.]+)")
    (with_it,) = numbers(text, r"reaches 90% with batch norm: ([\d.]+)")
    assert (
        with_it / without > 2.99
    )  # three times; at ten times it is chance on which side of 90% a run ends
    assert (folder / "batchnorm_learning_rates.png").stat().st_size > 10_000


def test_weight_decay_makes_smooth_weights(ran):
    outputs, folder = ran
    noisy, smooth = re.findall(r"roughness of the weights ([\d.]+)", outputs["first_layer_weights"])
    assert float(smooth) < 0.8 * float(noisy)
    assert (folder / "first_layer_weights.png").stat().st_size > 10_000


def test_initialisation_keeps_shrinks_or_saturates(ran):
    text = ran[0]["initialisation"]
    rows = {}
    for line in text.splitlines()[1:]:
        name, *cells = re.split(r"  +", line.strip())
        rows[name] = [float(cell.rstrip("%")) for cell in cells]
    assert rows["tanh, 0.01 * randn"][3] < 1e-4
    assert rows["tanh, 1 * randn"][4] > 90
    assert abs(rows["tanh, Xavier"][3] - 0.228) < 0.02
    assert rows["ReLU, Xavier"][3] < 0.1 < 0.5 < rows["ReLU, He"][3]


def test_own_layer(ran):
    text = ran[0]["own_layer"]
    assert numbers(text, r"gradient check: ([\d.e-]+)") < [1e-7]
    assert numbers(text, r"accuracy on new points: ([\d.]+)%") > [98]
    low, high = numbers(text, r"slopes of the first layer: ([\d.-]+) to ([\d.-]+)")
    assert low < 0.1 and high > 0.4
    assert "saved and loaded: the same" in text


def test_numpy_model(ran):
    text = ran[0]["numpy_model"]
    first, last = numbers(text, r"loss ([\d.]+) at first, ([\d.]+) at last")
    assert first > 2 and last < 0.3
    assert numbers(text, r"difference to NumPy: ([\d.e-]+)") < [1e-5]
