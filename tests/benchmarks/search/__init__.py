"""Searches compared by replay of recorded learning curves.

A table holds 100 configurations or more, drawn at random from a real search space and trained to the full budget.
Samplers and stopping rules run against it in seconds, with the product's own searcher:

- ``python -m tests.benchmarks.search``: all strategies on all tables, 50 orders each; prints what they find for which
  resources, and with ``--plot FILE`` draws it.
- ``python -m tests.benchmarks.search.record RESULTS TABLE``: makes a table of a study that was run with
  ``--sampler random --pruner none --reports 27``.

A proposal is answered by the nearest recorded configuration that has not been used, and the sampler learns the truth:
the parameters of that configuration. So a sampler gets no credit for fine steps, only for the right region. Once all
configurations are used, a search is over.
"""
