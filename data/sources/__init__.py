"""The data sets: each file (or package) here is one, found by its name. See :mod:`data.source`."""

import pkgutil

__path__[:] = pkgutil.extend_path(__path__, __name__)  # and what lies in folders of this name on PYTHONPATH
