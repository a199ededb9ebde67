"""What is read: data sets, their conversion to Arrow shards, and the shards' way into the Ray object store."""

import pkgutil

__path__[:] = pkgutil.extend_path(__path__, __name__)  # and what lies in folders of this name on PYTHONPATH
