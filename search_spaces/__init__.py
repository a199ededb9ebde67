"""What is searched: one define-by-run Optuna space per model, in a file of its name; ``around`` has their ranges."""

import pkgutil

__path__[:] = pkgutil.extend_path(__path__, __name__)  # and what lies in folders of this name on PYTHONPATH
