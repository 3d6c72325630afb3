"""The classic experiments: the published figures, and the command that prints them."""

from __future__ import annotations

import csv
import re
from itertools import pairwise

import numpy as np
import pytest

from fastnn import cli, functional
from fastnn.experiments import EXPERIMENTS, init
from fastnn.experiments.init import CASES, RELU_HE, TANH_XAVIER, measure, over_seeds


def stds(case, **options):
    return [s.std for s in measure(case, 0, **options)]


def test_tanh_with_xavier_has_the_published_spread():
    for seed in (0, 1):
        found = [s.std for s in measure(TANH_XAVIER, seed)]
        np.testing.assert_allclose(found, init.TANH_XAVIER_STD, rtol=0, atol=init.ALLOWED)


def test_small_weights_collapse_and_large_ones_saturate():
    small, large = CASES[0], CASES[1]
    found = stds(small)
    assert all(b < 0.3 * a for a, b in pairwise(found)) and found[-1] < 1e-6
    for s in measure(large, 0):
        assert s.saturated > 0.9 and s.std > 0.97
        assert s.counts[:3].sum() + s.counts[-3:].sum() > 0.9 * s.counts.sum()


def test_relu_needs_the_factor_two():
    xavier, he = stds(CASES[3]), stds(RELU_HE)
    assert xavier[-1] < 0.05 * xavier[0]
    assert all(0.6 < value < 1.1 for value in he)


@pytest.mark.parametrize("case", CASES[::2], ids=lambda case: case.label)
def test_batch_norm_takes_the_scale_out(case):
    found = stds(case, batch_norm=True)
    expected = 0.628 if case.activation == "Tanh" else 0.584
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.01)


def check_range(spread):
    for published, found in ((init.RELU_HE_MEAN, spread.mean), (init.RELU_HE_STD, spread.std)):
        assert (found.min(axis=0) <= published).all() and (published <= found.max(axis=0)).all()


@pytest.mark.slow
def test_relu_with_he_lies_in_the_range_of_100_seeds():
    check_range(over_seeds(RELU_HE, 100))


def test_the_median_seed_and_the_statistics_of_a_seed():
    done = []
    spread = over_seeds(RELU_HE, 5, lambda: done.append(1))
    order = np.argsort(spread.std.mean(axis=1))
    assert spread.median_seed == order[2] and len(done) == 5
    statistics = measure(RELU_HE, 3)
    np.testing.assert_allclose(spread.mean[3], [s.mean for s in statistics], rtol=1e-12)
    np.testing.assert_allclose(spread.std[3], [s.std for s in statistics], rtol=1e-12)


def test_equal_weights_stay_equal():
    for value in (0.0, 0.1, -0.3):
        assert init.distinct_units(value)[0] == 1
    assert init.distinct_units("xavier")[0] == 32
    assert init.distinct_units("xavier")[1] < 0.7 * init.distinct_units(0.1)[1]


def test_a_stack_of_linear_layers_equals_one(monkeypatch):
    stacked, single, difference = init.linear_stack()
    assert (stacked, single) == (25_500, 2_550) and difference < 1e-13
    # With an activation between them it does not.
    forward = functional.dense_forward
    monkeypatch.setattr(functional, "dense_forward", lambda x, w, b: np.tanh(forward(x, w, b)))
    assert init.linear_stack()[2] > 1e-3


@pytest.fixture
def run(capsys):
    def call(*arguments, status=0):
        capsys.readouterr()
        assert cli.main(["experiment", *map(str, arguments)]) == status
        return capsys.readouterr()

    return call


def test_the_command(run, tmp_path):
    table = tmp_path / "a.csv"
    out = run("init", "--seeds", 2, "--csv", table).out
    line = next(line for line in out.splitlines() if line.startswith("tanh, Xavier  "))
    np.testing.assert_allclose(
        [float(word) for word in line.split()[2:]], init.TANH_XAVIER_STD, atol=init.ALLOWED
    )
    assert "within 0.006" in out and "NOT" not in out
    assert re.search(r"seed [01], the median one  +0\.5", out)
    assert re.search(r"published  +0\.562  0\.554", out)
    assert re.search(r"W = 0 +1 ", out) and "equal one (2,550)" in out
    assert "-0.000" not in out
    with open(table, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10 * 10
    assert {row["network"] for row in rows} >= {"tanh, Xavier", "ReLU, He, batch norm"}


@pytest.mark.slow
def test_the_picture(run, tmp_path):
    pytest.importorskip("matplotlib")
    assert "wrote" in run("init", "--seeds", 1, "--plot", tmp_path / "a.png").out
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "NAME"),
        (("nothing",), "init"),
        (("init", "--seeds", "0"), "at least 1"),
        (("init", "--seed", "x"), "whole number"),
        (("init", "--plot", "a.gif"), ".png"),
    ],
)
def test_bad_arguments_end_in_one_line(run, arguments, message):
    error = run(*arguments, status=2).err
    assert message in error and error.count("\n") == 1 and "Traceback" not in error


def test_help(run):
    for name in EXPERIMENTS:
        assert "examples:" in run(name, "--help").out
