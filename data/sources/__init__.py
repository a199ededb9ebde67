"""The data sets: each file (or package) here is one, found by its name. See :mod:`data.source`."""
