"""The private names of other libraries in our sources. What else is undocumented is tested beside this file."""

import ast
import re

from study.results_folder import ROOT

KNOWN = {
    "trainables/compiled.py": {"_dynamo", "_functorch", "_inductor"},
    "study/display/event_files.py": {"_get_file_writer"},
    "study/search/interrupted.py": {"_trial_id"},
    "study/search/prior.py": {"_storage", "_trial_id"},
    "study/search/searcher.py": {"_trial_id"},
    "study/search/starting_over.py": {"_study_id"},
    "study/search/storage.py": {"_study_id"},
}
"""The private names of other libraries that each file uses."""


def test_no_other_private_names_are_used():
    """The list of this file is complete: ``KNOWN``."""
    trees = {
        str(path.relative_to(ROOT)): ast.parse(path.read_text())
        for package in ("data", "search_spaces", "study", "trainables")
        for path in (ROOT / package).rglob("*.py")
    }
    nodes = [(file, node) for file, tree in trees.items() for node in ast.walk(tree)]
    ours = {node.name for _, node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)} | {"_exit", "_replace"}
    found: dict[str, set[str]] = {}
    for file, node in nodes:
        if isinstance(node, ast.Attribute) and re.match("_[a-z]", node.attr) and node.attr not in ours:
            if ast.unparse(node.value) not in ("self", "cls"):
                found.setdefault(file, set()).add(node.attr)
    assert found == KNOWN
