"""What the tests of study/search share."""

import pytest

from study.config import StudyConfig
from study.results_folder import StudyFolder
from study.search import storage, strategies
from study.search.proposal import Proposal
from study.search.searcher import StudySearcher
from tests.study.search.made_up import BASE, SEARCHED, space
from trainables.objectives import OBJECTIVES


@pytest.fixture
def make_searcher(tmp_path):
    """A searcher over the same journal each time, as a new process would open it; ``where`` is another folder."""

    def make(trials=4, fixed=None, where=tmp_path, wanted=1, **config):
        folder = StudyFolder(where)
        asked = StudyConfig(**{"model": "slot_attention", "reports": 10, **config})
        proposal = Proposal(space, {**BASE, **(fixed or {})}, fixed or {}, SEARCHED)
        maximize = OBJECTIVES[asked.goals[0]] == "max"
        promotion = strategies.promotion(asked.pruner, asked.reports, maximize=maximize)
        study = storage.open_study(asked, folder, {}, proposal.base)
        return StudySearcher(study, folder, trials, proposal, promotion, wanted, *asked.goals[1:])

    return make
