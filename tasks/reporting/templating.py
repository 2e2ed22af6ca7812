"""Render the templates of this package, with every value escaped.

Templates are in `templates/`: `*.html.j2` escape values for HTML, `*.md.j2` for Markdown. Texts of records and reasons
of the gate come from models and data, so they must not be able to add markup, in a table cell or elsewhere.
"""

import re
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

_TEMPLATES = Path(__file__).with_name("templates")

_BLANK_LINES = re.compile(r"\n{3,}")
# An underscore within a word, as in a metric's name, is not emphasis.
_MARKDOWN_SPECIAL = re.compile(r"[\\`*\[\]<>|&~]|(?<!\w)_|_(?!\w)")
# A heading, list item, thematic break or underline at the start of a line.
_MARKDOWN_BLOCK = re.compile(r"^(?=[-+=#]+(?:\s|$))|(?<=^\d)(?=[.)](?:\s|$))|(?<=^\d\d)(?=[.)](?:\s|$))")


def render(template: str, **values: object) -> str:
    """Render a template by its file name."""
    is_markdown = template.endswith(".md.j2")
    text = _environment(markdown=is_markdown).get_template(template).render(values)
    return _BLANK_LINES.sub("\n\n", text).strip("\n") + "\n" if is_markdown else text


def escape_markdown(value: object) -> Markup:
    """Return a value as one line of Markdown text without markup; None is empty."""
    if isinstance(value, Markup):
        return value
    line = " ".join(str("" if value is None else value).split())
    return Markup(_MARKDOWN_BLOCK.sub(r"\\", _MARKDOWN_SPECIAL.sub(r"\\\g<0>", line)))  # noqa: S704  (escaped here)


def markdown_code(value: object) -> Markup:
    """Return a value as an inline code span, which a backtick in the value cannot end."""
    line = " ".join(str(value).split())
    longest = max((len(run) for run in re.findall("`+", line)), default=0)
    fence = "`" * (longest + 1)
    padding = " " if longest else ""
    return Markup(f"{fence}{padding}{line}{padding}{fence}")  # noqa: S704  (escaped here)


def shorten(value: object, max_chars: int) -> str:
    """Return a value as one line of at most `max_chars` characters, and an ellipsis if it was longer."""
    line = " ".join(str("" if value is None else value).split())
    return line if len(line) <= max_chars else line[:max_chars] + "…"


def format_cell(value: object) -> str:
    """Return a value of a query as a table cell: three decimals for a float, 180 characters of a text."""
    return f"{value:.3f}" if isinstance(value, float) else shorten(value, 180)


def format_change(first: float | None, last: float | None, num_format: str) -> str:
    """Return the first and the last value of a metric: `147 → 14,957`."""
    return " → ".join("n/a" if value is None else format(value, num_format) for value in (first, last))


@cache
def _environment(*, markdown: bool) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        # With `finalize`, Markdown values are already escaped and marked as such, so HTML escaping leaves them.
        autoescape=True,
        finalize=escape_markdown if markdown else None,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(code=markdown_code, shorten=shorten, cell=format_cell)
    environment.globals["change"] = format_change
    return environment
