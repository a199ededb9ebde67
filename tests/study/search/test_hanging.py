"""When a trial hangs, and whose worker is ended; a real worker that is stopped is in test_hard_times_on_ray.py."""

from types import SimpleNamespace

import pytest

from study.search import hanging
from study.search.hanging import AT_LEAST, LOOKED_AWAY, HangWatch, Reports


def test_the_limit_is_ten_times_the_median_report_and_no_less_than_half_an_hour():
    reports = Reports()
    assert reports.limit is None, "the first report may take as long as it likes"
    reports.took(1.0, 3)
    assert reports.limit == AT_LEAST
    for seconds in (4000.0, 300.0, 200.0, 300.0, 5000.0):
        reports.took(seconds)
    assert reports.limit == 3000.0, "the long ones do not count for more"
    reports.took(400.0, 9)
    assert reports.limit == 4000.0


class Running:
    """A watch over trials, with a clock that is set by hand."""

    def __init__(self, monkeypatch, limit, *names):
        self.now, self.ended = 0.0, []
        monkeypatch.setattr(hanging.ray, "kill", lambda actor: self.ended.append(actor))
        self.told = {}
        self.watch = HangWatch(lambda: limit, self.told.__setitem__, lambda: self.now)
        self.trials = [self.trial(name) for name in names]

    @staticmethod
    def trial(name):
        state = SimpleNamespace(ray_actor=f"actor of {name}")
        return SimpleNamespace(trial_id=name, temporary_state=state, is_finished=lambda: False)

    def wait(self, seconds, step=1.0):
        for _ in range(round(seconds / step)):
            self.now += step
            self.watch.on_step_begin(0, self.trials)


@pytest.fixture
def running(monkeypatch):
    return lambda limit, *names: Running(monkeypatch, limit, *names)


def test_only_the_worker_without_a_report_is_ended_and_once(running):
    made = running(60.0, "stuck", "well")
    for _ in range(4):
        made.wait(20)
        made.watch.on_trial_result(0, made.trials, made.trials[1], {})
    assert made.ended == ["actor of stuck"] and made.told == {"stuck": 61.0}
    made.watch.on_trial_start(0, made.trials, made.trials[0])  # its next worker
    made.wait(60)
    assert made.ended == ["actor of stuck"]


def test_a_trial_that_waits_for_a_worker_or_has_ended_does_not_hang(running):
    made = running(60.0, "waits", "ended")
    made.trials[0].temporary_state.ray_actor = None
    made.trials[1].is_finished = lambda: True
    made.wait(200)
    assert made.ended == []


def test_a_driver_that_was_stopped_ends_no_trial(running):
    """As by Ctrl-Z: the reports of those hours have arrived, and are not read yet."""
    made = running(60.0, "well")
    made.wait(50)
    made.wait(9 * 3600, step=9 * 3600)
    assert made.ended == [], "it looked away"
    made.watch.on_trial_result(0, made.trials, made.trials[0], {})
    made.wait(59)
    assert made.ended == []
    made.wait(5 * LOOKED_AWAY, step=LOOKED_AWAY)
    assert made.ended == ["actor of well"]


def test_without_a_limit_no_trial_hangs(running):
    made = running(None, "slow")
    made.wait(3000, step=10.0)
    assert made.ended == []
