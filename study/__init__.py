"""What a user types (run, submit, plan, report, compare), what a study is, and four packages that do the work."""
