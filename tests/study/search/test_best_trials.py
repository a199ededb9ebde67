"""The best trials of a study, in both directions."""

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from study.search import storage


@pytest.mark.parametrize(("direction", "best"), [("maximize", [4, 2, 0]), ("minimize", [0, 2, 4])])
def test_the_best_complete_trials_come_first(direction, best):
    study = optuna.create_study(direction=direction)
    for value, state in ((0.1, "COMPLETE"), (9.0, "PRUNED"), (0.5, "COMPLETE"), (None, "FAIL"), (0.7, "COMPLETE")):
        study.add_trial(create_trial(value=value, state=TrialState[state]))
    assert storage.best_trials(study, 9) == best
    assert storage.best_trials(study, 2) == best[:2]
    assert storage.best_trials(study, 0) == []
