"""The verbs a user runs: tune, evaluate, report, submit."""
