"""What we use of Ray, Optuna and torch that they do not document: private names, orders of calls, texts of errors.

One test for each, against the installed library; its docstring says which of our lines relies on it. After an upgrade
the test that fails names what has moved. These tests import private modules themselves, so they fail when those move:
tests/study/cluster/test_recipes.py (Ray's cluster launcher), tests/study/test_submit.py (the largest job package),
tests/benchmarks/nodes.py (what an object store holds).
"""
