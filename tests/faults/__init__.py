"""Faults made for real on small studies, and what is left of the studies afterwards: ``make test-faults``."""
