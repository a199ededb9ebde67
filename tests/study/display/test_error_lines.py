from study.display.error_lines import first_line, last_line


def test_lines_of_a_traceback() -> None:
    error = RuntimeError("\nTraceback of the server:\n  File 'a.py'\nKeyError: 'b'\n\n")
    assert first_line(error) == "Traceback of the server:" and last_line(error) == "KeyError: 'b'"


def test_an_error_without_words_goes_by_its_type() -> None:
    assert first_line(ValueError()) == last_line(ValueError(" \n")) == "ValueError"
