"""All samplers and pruners of the command line, on a real storage."""

import subprocess
import sys

import pytest

from study import command_line
from study.results_folder import ROOT
from study.search import strategies
from tests.study.search.made_up import result


@pytest.mark.parametrize("name", strategies.SAMPLERS)
def test_every_sampler_proposes(make_searcher, name):
    searcher = make_searcher(trials=13, sampler=name)
    for i in range(12):
        searcher.suggest(str(i))
        searcher.on_trial_complete(str(i), result(10, i / 12, done=True))
    lr = searcher.suggest("last")["hyperparameters"]["lr"]
    assert 0.001 <= lr <= 0.1


@pytest.mark.parametrize("name", [name for name in strategies.PRUNERS if name != "none"])
def test_each_pruner_prunes_but_not_before_a_fifth(make_searcher, name):
    searcher = make_searcher(trials=12, pruner=name)
    pruned_at = []
    for i in range(12):
        searcher.suggest(str(i))
        for report in range(1, 10):
            if searcher.record(str(i), result(report, 1.0 - i / 12)):
                pruned_at.append(report)
                break
        else:
            searcher.on_trial_complete(str(i), result(10, 1.0 - i / 12, done=True))
    assert pruned_at and min(pruned_at) >= 2


def test_names_are_known_without_optuna():
    """The command line answers at once."""
    code = "import sys; from study.search.strategies import PRUNERS, SAMPLERS; print(*SAMPLERS, *PRUNERS); "
    code += "assert not {'optuna', 'torch', 'ray'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split() == ["tpe", "random", "cmaes", "gp", "asha", "hyperband", "median", "none"], done.stderr


def test_the_command_line_takes_all_names_and_no_others():
    for flag, names in (("--sampler", strategies.SAMPLERS), ("--pruner", strategies.PRUNERS)):
        for name in names:
            (asked,) = command_line.studies(["--model", "space", flag, name])
            assert getattr(asked, flag[2:]) == name
        (default,) = command_line.studies(["--model", "space"])
        assert getattr(default, flag[2:]) == next(iter(names))
        with pytest.raises(ValueError):
            command_line.studies(["--model", "space", flag, "nosuch"])
