"""What pruning saves: a simulation of asynchronous promotion."""

import heapq
import math

import numpy as np

from study.search.rungs import Promotion

LEARNT = 1.5
"""How much better the last trials are than the first, in standard deviations of a trial's quality. Chosen when
trials at the lowest ranks were stopped for good, so that simulated studies ran the same share of their steps as real
ones: 45 to 57 % for 50 trials, two at a time. It is not fitted to promotion yet."""

WANTED = 3
"""How many trials become complete at least: the base and two finalists."""

REPEATS = 20
"""How many studies are simulated; results are their means."""


def pruning(trials: int, at_a_time: int, reports: int, pruner: str) -> tuple[float, float]:
    """The share of all training steps that is run, and the duration of the study in full trials.

    The simulation assumes that the order of the trials is the same at all reports. Trials pause and are promoted as in
    :class:`study.search.searcher.StudySearcher`. For pruners other than asha the result is that of no pruning.
    """
    if pruner != "asha":
        return 1.0, float(math.ceil(trials / at_a_time))
    share, length = np.mean([_simulated(trials, at_a_time, reports, seed) for seed in range(REPEATS)], axis=0)
    return float(share), float(length)


def _simulated(trials: int, at_a_time: int, reports: int, seed: int) -> tuple[float, float]:
    chance = np.random.default_rng(seed).standard_normal(trials)
    quality = (chance + np.linspace(0.0, LEARNT, trials)).tolist()
    promotion = Promotion(reports, maximize=True)
    ends = [*promotion.rungs, reports]
    running: list[tuple[int, int, int]] = []  # a heap of (time of its end in reports, trial, report at its end)
    at: dict[int, int] = {}  # trial -> the report at which it pauses
    started = steps = now = complete = 0
    while True:
        while len(running) < at_a_time:
            trial = promotion.next()
            if trial is None and started < trials:
                trial, begin, started = started, 0, started + 1
            else:
                if trial is None and complete + len(running) < WANTED:
                    trial = promotion.last()
                if trial is None:
                    break
                begin = at[trial]
                promotion.mark_promoted(trial, begin)
            end = next(report for report in ends if report > begin)
            if trial == begin == 0:  # the base never pauses
                end = reports
                for rung in promotion.rungs:
                    promotion.passed(trial, rung, quality[trial])
            steps += end - begin
            heapq.heappush(running, (now + end - begin, trial, end))
        if not running:
            return steps / (trials * reports), now / reports
        now, trial, report = heapq.heappop(running)
        if report < reports:
            promotion.reached(trial, report, quality[trial])
            at[trial] = report
        else:
            complete += 1
