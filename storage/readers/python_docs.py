"""Docstrings of the running Python and its language reference: a human corpus that every machine has.

Files are parsed with `ast`; no module is imported. The source of a document is its file, so that a split by source
never puts one file on both sides.
"""

import ast
import inspect
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from heirloom.syntax import parse_module

LICENSE = "PSF-2.0"
_SKIPPED = {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "__pycache__", "ensurepip"}
_CODE = re.compile(r"^\s*(>>>|\.\.\.|[|+*#=-]{2,}|\||:|@|\$)")


def iter_docstrings() -> Iterator[tuple[str, str]]:
    """Yield (text, source) of every docstring of the standard library and every language reference topic.

    Raises:
        FileNotFoundError: the interpreter ships without its standard library's sources.
    """
    library = Path(sysconfig.get_paths()["stdlib"])
    files = sorted(path for path in library.rglob("*.py") if not _SKIPPED & set(path.relative_to(library).parts))
    if not files:
        raise FileNotFoundError(f"no Python sources under {library}; name a text of your own instead")
    for path in files:
        source = path.relative_to(library).as_posix()
        if source.startswith("pydoc_data/"):
            continue
        for text in _docstrings_of(path):
            yield text, source
    yield from _topics()


def _docstrings_of(path: Path) -> Iterator[str]:
    try:
        tree = parse_module(path.read_bytes())
    except (SyntaxError, ValueError):
        return
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, documented) and (text := ast.get_docstring(node)):
            yield strip_non_prose(text)


def _topics() -> Iterator[tuple[str, str]]:
    from pydoc_data import topics

    for name, text in sorted(topics.topics.items()):
        yield strip_non_prose(inspect.cleandoc(text)), f"topics/{name}"


def strip_non_prose(text: str) -> str:
    """Return the text without code examples, tables and rules."""
    kept: list[str] = []
    inside_code = False
    for line in text.splitlines():
        inside_code = _CODE.match(line) is not None or (inside_code and line.startswith("    ") and bool(line.strip()))
        kept.append("" if inside_code else line)
    return "\n".join(kept)
