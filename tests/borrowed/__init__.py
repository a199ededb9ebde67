"""What we rely on in Ray, Optuna and torch without their promise: private names, undocumented order, texts of errors.

One test for each, against the installed library; its docstring says which of our lines relies on it. After an upgrade
the test that fails names what has moved. Tests that import private modules themselves fail by themselves:
tests/study/cluster/test_recipes.py (Ray's cluster launcher), tests/study/test_submit.py (the largest job package),
tests/benchmarks/nodes.py (what an object store holds).
"""
