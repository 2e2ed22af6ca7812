"""One escape for each medium, on texts that a stranger wrote."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from heirloom.escaping import visible, without_formula
from heirloom.markdown import escape_markdown, markdown_code, markdown_table, on_one_line

_HOSTILE = (
    "![x](http://evil/track.png)",
    "[x](javascript:alert(1))",
    "<img src=x onerror=alert(1)>",
    "<http://evil>",
    "[x]: http://evil\n[x]",
    "a | b\n|---|\n",
    "`` ` ``",
    "\\",
    "&lt;script&gt;",
    "# heading",
    "\x1b]0;title\x07",
    "\u202egnp.exe",
)
_texts = st.lists(st.sampled_from([*_HOSTILE, *"![]()<>`|*_~\\&#\n\t -", "a", "1."])).map("".join) | st.text(
    max_size=40
)


@given(_texts)
@settings(max_examples=200, deadline=None)
def test_no_text_adds_markup_to_a_page_and_all_of_it_is_shown(text: str) -> None:
    page = f"before {escape_markdown(text)} after\n\n{markdown_table(['a', 'b'], [(text, 1)])}\n"
    html = MarkdownIt("commonmark", {"html": True}).enable("table").enable("strikethrough").render(page)
    tags = set(re.findall(r"</?([a-z0-9]+)", html))
    assert tags <= {"p", "table", "thead", "tbody", "tr", "th", "td"}
    assert html.count("<td>") == 2
    parts = MarkdownIt("commonmark").enable("table").parse(page)[1].children or []
    assert "".join(part.content for part in parts) == f"before {on_one_line(text)} after"


@given(_texts)
@settings(max_examples=200, deadline=None)
def test_no_text_ends_a_code_span(text: str) -> None:
    html = MarkdownIt("commonmark", {"html": True}).render(f"a {markdown_code(text or 'x')} b")
    assert set(re.findall(r"</?([a-z0-9]+)", html)) <= {"p", "code"}


@given(st.text(max_size=60))
@settings(max_examples=300, deadline=None)
def test_no_text_controls_a_terminal(text: str) -> None:
    shown = visible(text)
    assert all(character.isprintable() or character in "\n\t" or ord(character) > 0x9F for character in shown)
    assert not re.search("[\u202a-\u202e\u2066-\u2069]", shown)
    shown.encode()
    assert "\n" not in visible(text, keep="")


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-cmd|' /C calc'!A0", "@SUM(1)", "\t=1", "\r=1"])
def test_a_spreadsheet_calculates_no_cell(cell: str) -> None:
    assert without_formula(cell) == f"'{cell}"
    assert without_formula(f"a{cell}") == f"a{cell}"
