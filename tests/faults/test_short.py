"""The short form of ``make test-faults``: a study that is told to end, loses its Ray, is damaged, or does not begin."""

import dataclasses
import random

import pytest

from tests.faults.__main__ import Row, run, table
from tests.faults.chain import Chain
from tests.faults.damage import DAMAGES
from tests.faults.kinds import STRIKES

pytestmark = pytest.mark.ray

CHOSEN = ("SIGTERM in the final stage", "raylet killed", "hole in the journal")
"""A signal, a kill and a damage; ``make test-faults`` makes all."""


@pytest.mark.timeout(1200)  # a dozen runs of the command, three minutes on an idle machine
def test_a_study_survives_faults_of_all_sorts(tmp_path):
    faults = [fault for name in CHOSEN for fault in [*STRIKES, *DAMAGES] if fault.kind == name]
    assert len(faults) == len(CHOSEN)
    chain = Chain(tmp_path, tmp_path / "cache")
    rows = [Row(dataclasses.replace(fault, times=1)) for fault in faults]
    run(rows, chain, random.Random(0))
    assert not [row.problems for row in rows if row.problems], table(rows) + "\n".join(chain.said)
    assert sum(row.lost for row in rows) == 0


def test_workers_that_die_at_their_start_are_one_line_and_leave_nothing(tmp_path):
    (fault,) = [fault for fault in DAMAGES if fault.kind == "workers that die at their start"]
    chain = Chain(tmp_path, tmp_path / "cache")
    fault.inject(chain, random.Random(0))
    assert not chain.problems, "\n".join([*chain.problems, *chain.said])
    assert not chain.folder.exists(), "a folder was left behind"
