"""Are the tests able to fail? One line of the source is changed at a time, and the file's own tests must notice."""
