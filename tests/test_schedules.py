"""Schedules: their formulas, their ends, and steps that are none."""

from __future__ import annotations

import math

import numpy as np
import pytest

import fastnn as fnn
from fastnn import schedules as s

ALL = [
    s.StepDecay(0.1, every=7, factor=0.5),
    s.Exponential(0.1, decay=0.03),
    s.InverseTime(0.1, decay=0.2),
    s.Cosine(0.1, steps=40, final=1e-3),
    s.WarmUp(5, then=0.1),
    s.WarmUp(5, then=s.Cosine(0.1, steps=40)),
    s.OneCycle(0.1, steps=40),
    s.Scaled(s.Cosine(0.1, steps=40), 0.1, minimum=1e-3),
]
each = pytest.mark.parametrize("schedule", ALL, ids=repr)


@each
def test_a_rate_is_finite_and_not_negative_however_far(schedule):
    for step in (0, 1, 5, 39, 40, 41, 10**6, 10**15, np.int64(3)):
        rate = schedule(step)
        assert isinstance(rate, float) and 0 <= rate <= 0.1 + 1e-12


@each
@pytest.mark.parametrize("step", [-1, 1.5, math.nan, "3", None])
def test_what_is_no_step_is_refused(schedule, step):
    with pytest.raises((TypeError, ValueError), match="step"):
        schedule(step)


def test_rates_are_those_of_the_formulas():
    steps = np.arange(60)
    cut = np.minimum(steps, 40)
    expected = {
        0: 0.1 * 0.5 ** (steps // 7),
        1: 0.1 * np.exp(-0.03 * steps),
        2: 0.1 / (1 + 0.2 * steps),
        3: 1e-3 + 0.5 * (0.1 - 1e-3) * (1 + np.cos(np.pi * cut / 40)),
        4: 0.1 * np.minimum(1, (steps + 1) / 5),
    }
    for i, rates in expected.items():
        np.testing.assert_allclose([ALL[i](int(step)) for step in steps], rates, rtol=1e-12)


def test_one_cycle_rises_to_its_rate_falls_and_stays_low():
    schedule = s.OneCycle(1.0, steps=101, rising=0.3, start=10, end=1000)
    rates = np.array([schedule(step) for step in range(150)])
    assert rates[0] == pytest.approx(0.1) and rates.argmax() == 30 and rates.max() == 1.0
    assert (np.diff(rates[:31]) > 0).all() and (np.diff(rates[30:101]) < 0).all()
    np.testing.assert_allclose(rates[100:], 1e-3)
    assert s.OneCycle(1.0, steps=5, rising=0.0)(0) == 1.0


def test_after_a_warm_up_another_schedule_begins_at_its_start():
    schedule = s.WarmUp(10, then=s.StepDecay(0.5, every=4))
    assert schedule(9) == schedule(10) == schedule(13) == 0.5
    assert schedule(14) == pytest.approx(0.05)


def test_a_fit_follows_a_schedule_over_its_epochs():
    X, y = np.random.default_rng(0).standard_normal((50, 3)), np.arange(50) % 2
    total = s.steps(50, batch_size=20, epochs=4)
    assert total == 12
    model = fnn.Sequential([fnn.Dense(2)], seed=0)
    schedule = s.Cosine(0.1, steps=total)
    history = model.fit(X, y, optimizer=fnn.SGD(lr=schedule), batch_size=20, epochs=5)
    last = [schedule(3 * epoch - 1) for epoch in range(1, 6)]
    assert history["lr"] == pytest.approx(last) and history["lr"][-1] == 0.0


def test_steps_counts_those_of_a_fit():
    assert s.steps(50, None, 3) == 3 and s.steps(10, 128) == 1 and s.steps(129, 64, 2) == 6


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: s.StepDecay(0.0, every=3), "lr"),
        (lambda: s.StepDecay(0.1, every=0), "every"),
        (lambda: s.StepDecay(0.1, every=3, factor=1.0), "factor"),
        (lambda: s.Exponential(0.1, decay=-1), "decay"),
        (lambda: s.InverseTime(math.nan, decay=1), "lr"),
        (lambda: s.Cosine(0.1, steps=0), "steps"),
        (lambda: s.Cosine(0.1, steps=2.5), "steps"),
        (lambda: s.Cosine(0.1, steps=2, final=-1), "final"),
        (lambda: s.WarmUp(0, then=0.1), "steps"),
        (lambda: s.WarmUp(3, then=-0.1), "then"),
        (lambda: s.OneCycle(0.1, steps=5, rising=1.0), "rising"),
        (lambda: s.OneCycle(0.1, steps=5, start=0), "start"),
        (lambda: s.Scaled(0.1, 0.5), "schedule"),
        (lambda: s.steps(0, 3), "rows"),
    ],
)
def test_settings_out_of_range_are_refused(make, name):
    with pytest.raises((TypeError, ValueError), match=name):
        make()


def test_a_schedule_of_ones_own_that_returns_nan_is_refused():
    X, y = np.eye(4), np.arange(4) % 2
    model = fnn.Sequential([fnn.Dense(2)], seed=0)
    with pytest.raises(ValueError, match="returned nan at step 2"):
        model.fit(X, y, optimizer=fnn.SGD(lambda step: math.nan if step == 2 else 0.1), epochs=5)
