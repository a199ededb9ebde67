"""Mutation tests: one line of a source is changed at a time, and the source's own tests must fail."""
