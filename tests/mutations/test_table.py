from collections import Counter
from pathlib import Path

import pytest

from tests.mutations.noticed_by import TESTS
from tests.mutations.table import MUTATIONS

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("source", sorted({mutation.source for mutation in MUTATIONS}))
def test_every_mutation_fits_its_source(source: str) -> None:
    """Else ``make mutate`` says so, which nobody runs at every change."""
    text = (ROOT / source).read_text()
    assert source in TESTS
    for mutation in MUTATIONS:
        if mutation.source == source:
            assert text.count(mutation.old) == 1, mutation.old
            assert mutation.new != mutation.old


def test_no_mutation_stands_twice() -> None:
    assert max(Counter(MUTATIONS).values()) == 1
