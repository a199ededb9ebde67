"""The command ``clevrtune``: our packages are those beside this file, whatever else has their names.

``data`` and ``study`` are names that a person's own files have, too, on PYTHONPATH or in the working directory.
"""

import sys
from pathlib import Path


def main() -> int:
    """The command; returns the exit status."""
    here = str(Path(__file__).resolve().parent)
    sys.path.insert(0, here)
    import data  # noqa: F401
    import search_spaces  # noqa: F401
    import trainables  # noqa: F401
    from study import command_line

    del sys.path[0]  # from now on the folder has its place behind PYTHONPATH
    if here not in sys.path:  # an editable install has it nowhere
        sys.path.append(here)
    return command_line.clevrtune()
