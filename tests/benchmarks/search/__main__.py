"""``python -m tests.benchmarks.search [TABLE ...]``: compares searches on recorded learning curves."""

import argparse
from pathlib import Path

from tests.benchmarks.search import figures
from tests.benchmarks.search.replay import STRATEGIES
from tests.benchmarks.search.table import TABLES, load


def main() -> None:
    """Print the figures of each table, and draw the picture if asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.search", description=__doc__)
    parser.add_argument("tables", nargs="*", type=Path, help="Parquet files [default: those of the project]")
    parser.add_argument("--orders", type=int, default=50, help="how often each search is run, with other seeds")
    parser.add_argument("--places", type=int, nargs="+", default=[2, 16], help="trials at a time")
    parser.add_argument("--reports", type=int, nargs="+", default=[6], help="validations per trial")
    parser.add_argument("--strategies", nargs="+", default=list(STRATEGIES), choices=STRATEGIES, metavar="NAME")
    parser.add_argument("--bad-base", action="store_true", help="a configuration from the worst third is the base")
    parser.add_argument("--plot", type=Path, help="draw the runs with the first number of places and reports here")
    asked = parser.parse_args()
    drawn = []
    for path in asked.tables or sorted(TABLES.glob("*.parquet")):
        recorded = load(path)
        print(figures.ranks(recorded))
        for reports in asked.reports:
            table = recorded.coarser(reports)
            for places in asked.places:
                base = table.bad_base() if asked.bad_base else 0
                comparison = figures.compare(table, places, asked.orders, asked.strategies, base)
                print(figures.report(comparison), flush=True)
                if (reports, places) == (asked.reports[0], asked.places[0]):
                    drawn.append(comparison)
    if asked.plot:
        figures.draw(drawn, asked.plot)


if __name__ == "__main__":
    main()
