"""What a user types (run, submit, plan, report, compare), what a study is, and the four rooms that do the work."""
