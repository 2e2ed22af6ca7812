"""Print the withdrawn words that remain, as file:line:word: `python docs/check_words.py [PATH ...]`.

The list is docs/withdrawn_words.txt. Exempt are history (docs/log.md, docs/decisions, CHANGELOG.md, benchmarks/results)
and pages that are generated from code, since the code itself is checked.
"""

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
WORDS = "docs/withdrawn_words.txt"
_HISTORY = ("docs/log.md", "docs/decisions/*", "CHANGELOG.md", "benchmarks/results/*")
_GENERATED = ("docs/commands.md", "docs/recipe.md", "docs/storage.md", "docs/figures.md")
_EXEMPT = (*_HISTORY, *_GENERATED, WORDS, "lock-py311.txt", "LICENSE")
_SUFFIXES = {".py", ".md", ".toml", ".sql", ".yaml", ".yml", ".sh", ".html", ".txt", ""}


def remaining(paths: Sequence[str] = ()) -> Iterator[str]:
    """Yield `file:line:word` for each withdrawn word in tracked text files below `paths`, or in all of them."""
    rules, exemptions = _word_list()
    tracked = subprocess.run(["git", "ls-files", "--", *paths], cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S603, S607
    for name in tracked.stdout.splitlines():
        path = ROOT / name
        if path.suffix not in _SUFFIXES or any(fnmatch(name, pattern) for pattern in _EXEMPT) or not path.is_file():
            continue
        exempt = {expression for pattern, expression in exemptions if fnmatch(name, pattern)}
        matched = [rule for expression, rule in rules.items() if expression not in exempt]
        for number, line in enumerate(path.read_text().splitlines(), 1):
            for rule in matched:
                yield from (f"{name}:{number}:{match.group()}" for match in rule.finditer(line))


@cache
def _word_list() -> tuple[dict[str, re.Pattern[str]], list[tuple[str, str]]]:
    """Return the rules by their expression, and the exemptions as pairs of path pattern and expression."""
    rules: dict[str, re.Pattern[str]] = {}
    exemptions: list[tuple[str, str]] = []
    for line in (ROOT / WORDS).read_text().splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        first, second = re.split(r"\s{2,}", line.strip(), maxsplit=1)
        if first.startswith("!"):
            exemptions.append((first.removeprefix("!").strip(), second))
        else:
            # Identifiers count word by word: a rule matches in snake_case and CamelCase names, not inside a longer
            # word.
            rules[first] = re.compile(rf"(?<![A-Za-z])(?i:{first})(?![a-z])")
    return rules, exemptions


if __name__ == "__main__":
    found = list(remaining(sys.argv[1:]))
    print("\n".join([*found, f"{len(found)} withdrawn words"]))  # noqa: T201
    sys.exit(bool(found))
