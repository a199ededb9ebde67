"""Where Ray's memory monitor acts, and what it says; what it does is in tests/study/test_hard_times_on_ray.py."""

import pytest

from data import machine, memory_monitor

GIB = 2**30


@pytest.mark.parametrize(
    ("share", "refresh", "room"),
    [(None, None, 1.0 * GIB), ("0.9", None, 0.0), ("0.5", "250", -8.0 * GIB), ("0.5", "0", 2.0 * GIB)],
)
def test_the_room_is_what_is_free_above_rays_limit(monkeypatch, share, refresh, room):
    monkeypatch.setattr(machine, "free_memory", lambda: 2 * GIB)
    monkeypatch.setattr(machine, "total_memory", lambda: 20 * GIB)
    for name, value in (("RAY_memory_usage_threshold", share), ("RAY_memory_monitor_refresh_ms", refresh)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert memory_monitor.room() == pytest.approx(room, abs=2)


def test_another_text_of_ray_names_no_node_and_no_figures():
    assert memory_monitor.told("a worker was killed") == ("", "the node ran out of memory")
