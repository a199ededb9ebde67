"""What nodes there are, and whether they can do their part."""
