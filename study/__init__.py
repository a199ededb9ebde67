"""What a user types (run, submit, plan, report, compare, ...), what a study is, and four packages that do the work."""

import sys
from pathlib import Path

# An editable install finds our packages last, after a folder on PYTHONPATH that has models in `trainables/`.
if (_ROOT := str(Path(__file__).resolve().parents[1])) not in sys.path:
    sys.path.append(_ROOT)
