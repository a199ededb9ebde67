"""How much of a study asynchronous successive halving leaves, simulated."""

import bisect
import heapq
import math

import numpy as np

LEARNT = 1.5
"""How much better the sampler's last trials are than its first, over the spread of trials proposed alike. With it
simulated studies keep what the README's four kept: 45 to 57 % of the steps of 50 trials, two at a time."""

REPEATS = 20
"""Simulated studies, whose mean is taken."""


def stopping(trials: int, at_a_time: int, reports: int, pruner: str) -> tuple[float, float]:
    """Share of steps that is left, and the study's length in full trials, under asynchronous successive halving.

    Simulated with trials whose rank is the same at all reports: after a rung a trial goes on if it is among the best
    third of those that have got there, as Optuna's pruner has it. Other pruners than asha are taken to stop nothing.
    """
    if pruner != "asha":
        return 1.0, float(math.ceil(trials / at_a_time))
    share, length = np.mean([_simulated(trials, at_a_time, reports, seed) for seed in range(REPEATS)], axis=0)
    return float(share), float(length)


def _simulated(trials: int, at_a_time: int, reports: int, seed: int) -> tuple[float, float]:
    first = math.ceil(0.2 * reports)
    rungs = [first * 3**i for i in range(9) if first * 3**i < reports]
    luck = np.random.default_rng(seed).standard_normal(trials)
    quality = (luck + np.linspace(0.0, LEARNT, trials)).tolist()
    reached: dict[int, list[float]] = {rung: [] for rung in rungs}
    started = min(trials, at_a_time)
    events = [(1, trial, 1) for trial in range(started)]  # time in reports, trial, report; a heap as it is
    steps = end = 0
    while events:
        now, trial, report = heapq.heappop(events)
        steps += 1
        end = now
        going_on = report < reports
        if going_on and report in reached:
            there = reached[report]  # in ascending order
            better = len(there) - bisect.bisect(there, quality[trial])
            bisect.insort(there, quality[trial])
            going_on = better < max(1, len(there) // 3)
        if going_on:
            heapq.heappush(events, (now + 1, trial, report + 1))
        elif started < trials:
            heapq.heappush(events, (now + 1, started, 1))
            started += 1
    return steps / (trials * reports), end / reports
