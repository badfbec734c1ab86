"""The meter: rates are over the time since the last look, without what was paused; a resumed run's time adds up."""

from types import SimpleNamespace

import pytest
import torch

from leap.training.meter import Meter


@pytest.fixture
def clock(monkeypatch):
    """Seconds on the meter's clock, as a list of one number."""
    seconds = [100.0]
    monkeypatch.setattr("leap.training.meter.time", SimpleNamespace(monotonic=lambda: seconds[0]))
    return seconds


def batch(*row_lengths, width):
    return {"row_lengths": list(row_lengths), "input_ids": torch.zeros(len(row_lengths), width)}


def test_rates_are_those_since_the_last_look_without_padding_and_pauses(clock):
    meter = Meter(flops_of=lambda batch: 1e6 * batch["input_ids"].numel(), peak_flops=1e8)
    meter.count(meter.work_of([batch(30, 50, width=50), batch(20, width=20)]))
    clock[0] += 2
    with meter.paused():
        clock[0] += 1000
    with meter.waiting():
        clock[0] += 2
    assert meter.rates() == {
        "tokens_per_second": 25,
        "padding_share": pytest.approx(20 / 120),
        "data_wait_share": 0.5,
        "mfu": pytest.approx(120e6 / 4 / 1e8),
    }
    meter.count(meter.work_of([batch(40, width=40)]))
    clock[0] += 4
    assert meter.rates() == {
        "tokens_per_second": 10,
        "padding_share": 0,
        "data_wait_share": 0,
        "mfu": pytest.approx(0.1),
    }
    assert meter.seconds == 8


def test_fillers_count_as_padding_and_a_resumed_run_keeps_its_time(clock):
    meter = Meter()
    meter.start(seconds=500)
    meter.count(meter.work_of([batch(30, 0, width=30)]))
    clock[0] += 3
    assert meter.rates() == {"tokens_per_second": 10, "padding_share": 0.5, "data_wait_share": 0}
    assert meter.seconds == 503
