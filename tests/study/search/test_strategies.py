"""All samplers and pruners of the command line, on a real storage."""

import optuna
import pytest

from study import command_line
from study.search import strategies
from tests.study.search.made_up import result


@pytest.mark.parametrize("name", strategies.SAMPLERS)
def test_every_sampler_proposes(make_searcher, name):
    searcher = make_searcher(trials=13, sampler=name, pruner="none")
    for i in range(12):
        searcher.suggest(str(i))
        searcher.on_trial_complete(str(i), result(10, i / 12, done=True))
    lr = searcher.suggest("last")["hyperparameters"]["lr"]
    assert 0.001 <= lr <= 0.1


@pytest.mark.parametrize("name", ["halving", "hyperband", "median"])
def test_each_pruner_prunes_but_not_before_the_first_rung(make_searcher, name):
    searcher = make_searcher(trials=12, pruner=name, reports=18)
    pruned_at = []
    for i in range(12):
        searcher.suggest(str(i))
        for report in range(1, 18):
            if searcher.record(str(i), result(report, 1.0 - i / 12)):
                pruned_at.append(report)
                break
        else:
            searcher.on_trial_complete(str(i), result(18, 1.0 - i / 12, done=True))
    assert pruned_at and min(pruned_at) >= 2


@pytest.mark.parametrize("name", [name for name in strategies.PRUNERS if name != "asha"])
def test_the_first_trial_passes_all_rungs(make_searcher, name):
    searcher = make_searcher(trials=1, pruner=name)
    searcher.suggest("first")
    assert not any(searcher.record("first", result(report, 0.0)) for report in range(1, 10))


@pytest.mark.parametrize("name", strategies.SAMPLERS)
def test_a_seed_fixes_the_proposals(name):
    def proposals(seed):
        study = optuna.create_study(sampler=strategies.sampler(name, seed))
        return [study.ask().suggest_float("x", 0, 1) for _ in range(3)]

    assert proposals(1) == proposals(1) != proposals(2)


def test_the_command_line_takes_all_names_and_no_others():
    for flag, names in (("--sampler", strategies.SAMPLERS), ("--pruner", strategies.PRUNERS)):
        for name in names:
            alone = ["--pruner", "none"] if name in ("cmaes", "gp", "nsga2") else []
            (asked,) = command_line.studies(["--model", "space", flag, name, *alone])
            assert getattr(asked, flag[2:]) == name
        with pytest.raises(ValueError):
            command_line.studies(["--model", "space", flag, "nosuch"])
