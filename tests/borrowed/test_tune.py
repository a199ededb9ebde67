"""What we use of Ray Tune that it does not document, in one small run."""

import threading
from pathlib import Path

import pytest
from ray import tune
from ray.tune.execution.tune_controller import _get_max_pending_trials
from ray.tune.registry import TRAINABLE_CLASS, _global_registry
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import ConcurrencyLimiter, Searcher
from ray.tune.search.search_generator import SearchGenerator

from study.cluster import ray_runtime
from study.search.stopping import TUNE_FILES


class Seen:
    """What Tune does with a searcher, a scheduler and their trials."""

    def __init__(self, folder):
        self.folder = folder
        self.choices = []
        """status, whether it has reported, and number of each live trial, whenever a trial is chosen"""
        self.scheduled, self.searched, self.complete, self.names = [], [], {}, set()
        self.saved = []


class Trials(Searcher):
    """Three trials; it cannot be pickled but for ``__getstate__``."""

    def __init__(self, seen):
        super().__init__()
        self.seen, self.lock, self.given = seen, threading.Lock(), 0

    def __getstate__(self):
        return {}

    def save(self, checkpoint_path):
        self.seen.saved.append(Path(checkpoint_path).name)
        open(checkpoint_path, "wb").close()

    def restore(self, checkpoint_path):
        raise AssertionError("nobody restores")

    def suggest(self, trial_id):
        if self.given == 3:
            return Searcher.FINISHED
        self.given += 1
        return {"number": self.given - 1, "folder": str(self.seen.folder)}

    def on_trial_result(self, trial_id, result):
        self.seen.searched.append((result["config/number"], result["score"]))

    def on_trial_complete(self, trial_id, result=None, error=False):
        number = result["config/number"]
        saved = sorted(self.seen.folder.glob(f"run/trial_{number}/checkpoint_*/score"))
        self.seen.complete[number] = result["done"], result["score"], [path.read_text() for path in saved], error


class Choosing(FIFOScheduler):
    """Stops trial 1 after its first result."""

    def __init__(self, seen):
        super().__init__()
        self.seen, self.lock = seen, threading.Lock()

    def __getstate__(self):
        return {}

    def choose_trial_to_run(self, tune_controller):
        live = tune_controller.get_live_trials()
        self.seen.choices += [(trial.status, bool(trial.metric_analysis), trial.config["number"]) for trial in live]
        self.seen.names |= {trial.trainable_name for trial in live}
        return next((trial for trial in live if trial.status == trial.PENDING), None)

    def on_trial_result(self, tune_controller, trial, result):
        self.seen.scheduled.append((trial.config["number"], result["score"]))
        return TrialScheduler.STOP if trial.config["number"] == 1 else TrialScheduler.CONTINUE


@pytest.fixture(scope="module")
def seen(ray_cluster, tmp_path_factory):
    """A run of three trials of two results each, of which the second is stopped and the third raises once."""

    class Counting(tune.Trainable):  # within a function, so that workers get it by value and import nothing
        def setup(self, config, scale):
            self.scale = scale
            self.reset_config(config)

        def reset_config(self, new_config):
            self.score = 0
            self.number, self.broken = new_config["number"], Path(new_config["folder"]) / "broken"
            return True

        def step(self):
            self.score += self.scale
            if (self.number, self.score) == (2, 20) and not self.broken.exists():
                self.broken.touch()
                raise RuntimeError("once")
            return {"score": self.score, "done": self.score == 20}

        def save_checkpoint(self, checkpoint_dir):
            (Path(checkpoint_dir) / "score").write_text(str(self.score))

        def load_checkpoint(self, checkpoint_dir):
            self.score = int((Path(checkpoint_dir) / "score").read_text())

    def name(trial):
        return f"trial_{trial.config['number']}"

    seen = Seen(tmp_path_factory.mktemp("tune"))
    trainable = tune.with_resources(tune.with_parameters(Counting, scale=10), {"CPU": 1})
    trainable.__name__ = "a-name-of-its-own"
    with pytest.MonkeyPatch.context() as patch:
        for key, value in ray_runtime.QUIET.items():
            patch.setenv(key, value)
        tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=ConcurrencyLimiter(Trials(seen), max_concurrent=1),
                scheduler=Choosing(seen),
                num_samples=10**9,
                reuse_actors=True,
                trial_name_creator=name,
                trial_dirname_creator=name,
            ),
            run_config=tune.RunConfig(
                name="run",
                storage_path=str(seen.folder),
                failure_config=tune.FailureConfig(max_failures=1),
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1, num_to_keep=2),
                verbose=0,
            ),
        ).fit()
    return seen


@pytest.mark.ray
def test_a_scheduler_sees_the_trials_that_wait_and_whether_they_have_run(seen):
    """``PruningScheduler.choose_trial_to_run``: get_live_trials, status, PENDING, metric_analysis, config."""
    assert ("PENDING", False, 0) in seen.choices
    assert ("PENDING", True, 2) in seen.choices, "a trial that lost its worker"
    assert not any(run for status, run, number in seen.choices if status == "PENDING" and number != 2)


@pytest.mark.ray
def test_the_last_result_reaches_the_searchers_on_trial_complete_only(seen):
    """``StudySearcher.on_trial_complete`` stores it; ``record``, which the scheduler calls, is not called for it."""
    assert seen.scheduled == [(0, 10), (1, 10), (2, 10)]
    assert {number: done for number, (done, *_) in seen.complete.items()} == {0: True, 1: True, 2: True}
    assert {number: score for number, (_, score, *_) in seen.complete.items()} == {0: 20, 1: 10, 2: 20}


@pytest.mark.ray
def test_a_trial_is_complete_after_its_last_checkpoint_is_written(seen):
    """``StudySearcher.on_trial_complete`` tells COMPLETE, and the final stage reads the newest checkpoint."""
    assert [seen.complete[number][2][-1] for number in (0, 2)] == ["20", "20"]


@pytest.mark.ray
def test_finished_ends_a_run_whatever_the_number_of_samples(seen):
    """``StudySearcher.suggest`` and ``num_samples=10**9`` in ``tune_study``."""
    assert isinstance(Searcher.FINISHED, str) and sorted(seen.complete) == [0, 1, 2]


@pytest.mark.ray
def test_the_name_of_a_wrapped_trainable_is_its_name_in_tunes_registry(seen):
    """``trainable.__name__ = ...`` after with_parameters and with_resources in ``tune_study``."""
    assert seen.names == {"a-name-of-its-own"}
    assert _global_registry.contains(TRAINABLE_CLASS, "a-name-of-its-own")


@pytest.mark.ray
def test_tune_pickles_searcher_and_scheduler_by_their_state_and_saves_the_searcher_by_its_method(seen):
    """``__getstate__`` of all that ``tune_study`` hands over, and ``StudySearcher.save``."""
    assert (seen.folder / "run" / "tuner.pkl").stat().st_size > 0
    assert seen.saved and all("searcher-state-" in name for name in seen.saved)


@pytest.mark.ray
def test_what_tune_leaves_beside_the_trials_has_the_names_that_are_swept(seen):
    """``TUNE_FILES`` in study/search/stopping.py."""
    left = {path.name for path in (seen.folder / "run").iterdir() if path.is_file()}
    swept = {path.name for pattern in TUNE_FILES for path in (seen.folder / "run").glob(pattern)}
    assert left and left == swept


def test_the_limit_is_read_at_each_suggestion_and_once_for_what_may_be_starting(tmp_path):
    """``ElasticLimiter`` sets ``max_concurrent`` before each suggestion."""
    limiter = ConcurrencyLimiter(Trials(Seen(tmp_path)), max_concurrent=7)
    assert _get_max_pending_trials(SearchGenerator(limiter)) == 7
    limiter.max_concurrent = 1
    assert limiter.suggest("a")["number"] == 0 and limiter.suggest("b") is None
    limiter.max_concurrent = 2
    assert limiter.suggest("b")["number"] == 1 and limiter.suggest("c") is None
