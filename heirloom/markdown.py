"""Write Markdown pages and cards: templates whose values are escaped, so that no value can add markup.

Texts of records, reasons of the gate, licenses and settings come from models, data and strangers. Escaped, they add no
link, picture, HTML or table cell, in a renderer of CommonMark or of GitHub's Markdown.
"""

import re
from collections.abc import Iterable, Sequence

from jinja2 import BaseLoader, Environment, StrictUndefined
from markupsafe import Markup

from heirloom.escaping import visible

# An underscore within a word, as in a metric's name, is not emphasis.
_SPECIAL = re.compile(r"[\\`*\[\]<>|&~]|(?<!\w)_|_(?!\w)")
# A heading, list item, thematic break or underline at the start of a line.
_BLOCK = re.compile(r"^(?=[-+=#]+(?:\s|$))|(?<=^\d)(?=[.)](?:\s|$))|(?<=^\d\d)(?=[.)](?:\s|$))")


def escape_markdown(value: object) -> Markup:
    """Return a value as one line of Markdown text without markup; None is empty."""
    if isinstance(value, Markup):
        return value
    return Markup(_BLOCK.sub(r"\\", _SPECIAL.sub(r"\\\g<0>", on_one_line(value))))  # noqa: S704  (escaped here)


def markdown_code(value: object) -> Markup:
    """Return a value as an inline code span, which a backtick in the value cannot end."""
    line = on_one_line(value)
    longest = max((len(run) for run in re.findall("`+", line)), default=0)
    fence = "`" * (longest + 1)
    padding = " " if longest else ""
    return Markup(f"{fence}{padding}{line}{padding}{fence}")  # noqa: S704  (escaped here)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> Markup:
    """Return a Markdown table; None becomes a dash."""
    cells = [["–" if cell is None else escape_markdown(cell) for cell in row] for row in rows]
    lines = [map(escape_markdown, header), ["---"] * len(header), *cells]
    return Markup("\n".join(f"| {' | '.join(line)} |" for line in lines))  # noqa: S704  (escaped here)


def on_one_line(value: object) -> str:
    """Return a value as one line of text without control characters; None is empty."""
    return visible(" ".join(str("" if value is None else value).split()))


def markdown_environment(loader: BaseLoader) -> Environment:
    """Return an environment for templates of Markdown; the filter `code` makes a code span."""
    environment = Environment(
        loader=loader,
        # With `finalize`, values are already escaped and marked as such, so the escaping of HTML leaves them.
        autoescape=True,
        finalize=escape_markdown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["code"] = markdown_code
    return environment
