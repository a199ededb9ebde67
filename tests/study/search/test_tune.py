"""Which trial gets the next worker, how many may live, and which are stopped."""

from types import SimpleNamespace

from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from study.search.tune import ElasticLimiter, PruningScheduler


def trial(number, status="PENDING", metrics=None):
    return SimpleNamespace(
        config={"number": number}, status=status, PENDING="PENDING", metric_analysis=metrics or {}, trial_id=str(number)
    )


def chosen(*trials, over=(), stopped=None):
    searcher = SimpleNamespace(live={trial.trial_id for trial in trials} - set(over))
    stop = [].append if stopped is None else stopped.append
    controller = SimpleNamespace(get_live_trials=lambda: list(trials), stop_trial=stop)
    found = PruningScheduler(searcher).choose_trial_to_run(controller)
    return found and found.config["number"]


def test_the_next_worker_goes_to_a_trial_that_lost_its_own_else_to_the_youngest():
    assert chosen(trial(3), trial(5), trial(4)) == 5
    assert chosen(trial(3), trial(2, metrics={"step": {}}), trial(4)) == 2
    assert chosen(trial(3), trial(9, "RUNNING"), trial(8, "TERMINATED")) == 3
    assert chosen(trial(9, "RUNNING")) is None and chosen() is None


def test_a_trial_that_is_over_gets_no_new_worker_for_the_one_it_lost():
    over, stopped = trial(9, metrics={"step": {}}), []
    assert chosen(trial(3), over, trial(7, "RUNNING"), over=["9", "7"], stopped=stopped) == 3
    assert stopped == [over], "a trial that runs ends by itself"


def test_a_trial_is_stopped_where_the_pruner_says_so():
    recorded = []

    def record(trial_id, result):
        recorded.append((trial_id, result["objective"]))
        return result["objective"] < 0.5

    scheduler = PruningScheduler(SimpleNamespace(record=record))
    assert scheduler.on_trial_result(None, trial(3), {"objective": 0.7}) == TrialScheduler.CONTINUE
    assert scheduler.on_trial_result(None, trial(4), {"objective": 0.2}) == TrialScheduler.STOP
    assert recorded == [("3", 0.7), ("4", 0.2)]


class Endless(Searcher):
    """Always has a trial."""

    def suggest(self, trial_id):
        return {"trial": trial_id}

    def on_trial_complete(self, trial_id, result=None, error=False):
        pass


def test_as_many_trials_live_as_there_are_places_at_the_moment():
    places = 1
    limiter = ElasticLimiter(Endless(), lambda: places, most=10)
    assert limiter.suggest("a") == {"trial": "a"} and limiter.suggest("b") is None
    places = 3
    assert limiter.suggest("b") and limiter.suggest("c") and limiter.suggest("d") is None
    limiter.on_trial_complete("a", {})
    assert limiter.suggest("d") == {"trial": "d"}
    places = 2
    limiter.on_trial_complete("b", {})
    assert limiter.suggest("e") is None


def test_a_study_that_stops_gets_no_more_trials_though_tune_only_asks_for_the_next_one():
    """As after Ctrl-C while the only trial rests: Tune then looks at nothing else until it gets a trial."""
    stops = False
    limiter = ElasticLimiter(Endless(), lambda: 2, most=10, stops=lambda: stops)
    assert limiter.suggest("a") == {"trial": "a"}
    stops = True
    assert limiter.suggest("b") == Searcher.FINISHED
