"""Render the templates of this package, with every value escaped.

Templates are in `templates/`: `*.html.j2` escape values for HTML, `*.md.j2` for Markdown. Texts of records and reasons
of the gate come from models and data, so they must not be able to add markup, in a table cell or elsewhere.
"""

import re
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from heirloom.markdown import markdown_environment, on_one_line

_TEMPLATES = Path(__file__).with_name("templates")

_BLANK_LINES = re.compile(r"\n{3,}")


def render(template: str, **values: object) -> str:
    """Render a template by its file name."""
    is_markdown = template.endswith(".md.j2")
    text = _environment(markdown=is_markdown).get_template(template).render(values)
    return _BLANK_LINES.sub("\n\n", text).strip("\n") + "\n" if is_markdown else text


def shorten(value: object, max_chars: int) -> str:
    """Return a value as one line of at most `max_chars` characters, and an ellipsis if it was longer."""
    line = on_one_line(value)
    return line if len(line) <= max_chars else line[:max_chars] + "…"


def format_cell(value: object) -> str:
    """Return a value of a query as a table cell: three decimals for a float, 180 characters of a text."""
    return f"{value:.3f}" if isinstance(value, float) else shorten(value, 180)


def format_change(first: float | None, last: float | None, num_format: str) -> str:
    """Return the first and the last value of a metric: `147 → 14,957`."""
    return " → ".join("n/a" if value is None else format(value, num_format) for value in (first, last))


@cache
def _environment(*, markdown: bool) -> Environment:
    loader = FileSystemLoader(_TEMPLATES)
    if not markdown:
        return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True)
    environment = markdown_environment(loader)
    environment.filters.update(shorten=shorten, cell=format_cell)
    environment.globals["change"] = format_change
    return environment
