import re

import pytest

from curation.text import words
from storage.readers.python_docs import iter_docstrings, strip_non_prose


@pytest.fixture(scope="module")
def found() -> list[tuple[str, str]]:
    return list(iter_docstrings())


@pytest.mark.slow
def test_there_are_thousands_and_nearly_all_say_something(found: list[tuple[str, str]]) -> None:
    assert len(found) > 3000
    assert sum(1 for text, _ in found if words(text)) >= 0.995 * len(found)


@pytest.mark.slow
def test_no_line_is_an_example_to_be_run(found: list[tuple[str, str]]) -> None:
    assert [text for text, _ in found if re.search(r"^\s*(>>>|\.\.\. )", text, re.MULTILINE)] == []


@pytest.mark.slow
def test_each_comes_with_the_file_it_was_written_in(found: list[tuple[str, str]]) -> None:
    sources = {source for _, source in found}
    assert {"json/__init__.py", "textwrap.py", "topics/lambda"} <= sources
    assert all(source.endswith(".py") or source.startswith("topics/") for source in sources)
    assert not any(source.startswith("/") or "site-packages" in source or "/test/" in source for source in sources)
    assert any("text" in text and source == "textwrap.py" for text, source in found)


@pytest.mark.slow
def test_every_run_reads_the_same_in_the_same_order(found: list[tuple[str, str]]) -> None:
    modules = [source for _, source in found if not source.startswith("topics/")]
    firsts = list(dict.fromkeys(modules))
    assert [source for place, source in enumerate(modules) if place == 0 or modules[place - 1] != source] == firsts


@pytest.mark.slow
def test_prose_loses_examples_with_what_they_print() -> None:
    text = "Add two numbers.\n\n    >>> add(1, 2)\n    3\n\nRaises nothing."
    assert strip_non_prose(text).split("\n") == ["Add two numbers.", "", "", "", "", "Raises nothing."]


@pytest.mark.slow
@pytest.mark.parametrize(
    "line", [">>> f()", "... more", "======", "+---+---+", "| a | b |", ":param x: y", "@decorated"]
)
def test_prose_loses_rules_tables_and_fields(line: str) -> None:
    assert strip_non_prose(f"Before.\n{line}\nAfter.") == "Before.\n\nAfter."


@pytest.mark.slow
@pytest.mark.parametrize("line", ["A plain line.", "    An indented one.", "It costs 3 + 4.", "x = 1, they say", ""])
def test_prose_keeps_what_a_person_would_read_aloud(line: str) -> None:
    assert strip_non_prose(f"Before.\n{line}\nAfter.") == f"Before.\n{line}\nAfter."
