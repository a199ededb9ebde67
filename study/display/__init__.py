"""What people look at while a study runs and after it: progress, event files, pages."""
