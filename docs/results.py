"""Render benchmark results as Markdown tables for the pages that show them; `reference.py` writes the pages."""

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
_RESULTS = ROOT / "benchmarks/results"
_HEAD = ("| figure | value | goal | holds |", "|---|--:|---|---|")
_UNDECIDED = "needs other hardware"

_README_FIGURES = (
    ("demo", "naive: held-out perplexity, last / first generation"),
    ("demo", "naive: rare-word coverage, last generation"),
    ("demo", "guarded: held-out perplexity, last / first generation"),
    ("headline", "500 passages: loop below best human-only"),
    ("headline", "1,500 passages: loop below best human-only"),
    ("dedup", "CPU time, datasketch bulk / Heirloom"),
    ("dedup", "Heirloom: recall, exact truth"),
    ("generation", "throughput, generate / bare LLM.generate"),
    ("training", "fast path: CPU time, plain Trainer / fast path"),
    ("measure", "CPU time, evaluation / generation"),
    ("operate", "CPU time of the Prefect run"),
    ("storage", "transformer and vLLM: files that differ"),
    ("storage", "ingest, a million records of jsonl"),
)
"""Rows of the README table: benchmark, and a prefix of the figure's name; the first match counts."""


def readme() -> str:
    """Return the README with its results table filled in."""
    return _filled((ROOT / "README.md").read_text(), "results", _readme_table())


def _filled(text: str, name: str, lines: list[str]) -> str:
    """Replace the lines between the two marks of that name."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, _, rest = text.partition(begin)
    return "\n".join([f"{before}{begin}", *lines, f"{end}{rest.partition(end)[2]}"])


def _readme_table() -> list[str]:
    """Return the selected rows, and the number of goals with a link to those that were missed.

    Raises:
        ValueError: a selected row has no result.
    """
    with_goal = [(name, figure) for name, figures in _measured() for figure in figures if figure["goal"]]
    rows = []
    for benchmark, prefix in _README_FIGURES:
        matches = [figure for name, figure in with_goal if name == benchmark and figure["name"].startswith(prefix)]
        if not matches:
            raise ValueError(f"README row {benchmark}: no figure in its results begins with {prefix!r}")
        rows.append(_row(benchmark, matches[0]))
    decided = [figure["holds"] for _, figure in with_goal if figure["holds"] is not None]
    missed = len(decided) - sum(decided)
    count = (
        f"{sum(decided)} of {len(decided)} goals hold. The {missed} missed goals: "
        "[docs/figures.md](docs/figures.md#missed-goals)."
    )
    return [*_HEAD, *rows, "", count]


def figures() -> str:
    """Return the page with every figure: missed goals first, then a section for each benchmark."""
    lines = [
        "# Every figure",
        "",
        "All benchmark results and their goals, generated from [benchmarks/results](../benchmarks/results) by",
        "`python docs/reference.py`. A goal that this machine cannot decide is marked *" + _UNDECIDED + "*.",
        "",
        "## Missed goals",
        "",
        *_HEAD,
    ]
    for name, measured in _measured():
        lines += [_row(name, figure) for figure in measured if figure["goal"] and figure["holds"] is False]
    for name, measured in _measured():
        result = json.loads((_RESULTS / f"{name}.json").read_text())
        lines += [
            "",
            f"## {name}",
            "",
            f"`{result['command']}`, {result['seconds']:,.0f} s on {result['machine']}.",
            "",
            *_HEAD,
        ]
        lines += [_row("", figure) for figure in measured]
    return "\n".join(lines) + "\n"


def _measured() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield the figures of each benchmark, except reproductions, which have a page of their own."""
    for path in sorted(_RESULTS.glob("*.json")):
        if path.stem != "reproductions":
            yield path.stem, json.loads(path.read_text())["figures"]


def _row(name: str, figure: dict[str, Any]) -> str:
    undecided = _UNDECIDED if figure["goal"] else ""
    holds = {True: "yes", False: "**no**", None: undecided}[figure["holds"]]
    title = f"{name}: {figure['name']}" if name else figure["name"]
    return f"| {title} | {figure['value']} {figure['unit']} | {figure['goal']} | {holds} |".replace("  ", " ")


def reproductions() -> str:
    """Return the page on published experiments, with one table for each experiment."""
    path = _RESULTS / "reproductions.json"
    figures = json.loads(path.read_text())["figures"] if path.exists() else []

    text = (ROOT / "docs/reproductions.md").read_text()
    for row in re.findall(r"<!-- row (\S+): begin -->", text):
        lines = ["| claim | published | ours | agrees |", "|---|---|--:|---|"]
        for figure in figures:
            if figure["name"].startswith(f"{row}: "):
                agrees = {True: "yes", False: "**no**", None: ""}[figure["holds"]]
                value = f"{figure['value']} {figure['unit']}".strip()
                lines.append(f"| {figure['name'].removeprefix(f'{row}: ')} | {figure['goal']} | {value} | {agrees} |")
        text = _filled(text, f"row {row}", lines)
    return text


_HEADLINE_METRICS = ("perplexity at best temperature", "perplexity", "rare word coverage")


def headline() -> str:
    """Return the headline page: the goals, then a table of arms for each data size, best first."""
    figures = json.loads((_RESULTS / "headline.json").read_text())["figures"]
    text = (ROOT / "docs/headline.md").read_text()
    goals = [_row("", figure) for figure in figures if not figure["name"].startswith(("small, ", "full, "))]
    tables = {"goals": [*_HEAD, *goals]} | {size: _arms(size, figures) for size in ("small", "full")}
    for name, lines in tables.items():
        text = _filled(text, name, lines)
    return text


def _arms(size: str, figures: list[dict[str, Any]]) -> list[str]:
    by_arm: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for figure in figures:
        if figure["name"].startswith(f"{size}, "):
            arm, _, metric = figure["name"].removeprefix(f"{size}, ").rpartition(": ")
            by_arm[arm][metric] = figure
    if not by_arm:
        return ["Not run yet."]
    first = _HEADLINE_METRICS[0]
    lines = [f"| arm | {' | '.join(_HEADLINE_METRICS)} | range over seeds |", "|---|--:|--:|--:|---|"]
    for arm, metrics in sorted(by_arm.items(), key=lambda item: item[1][first]["value"]):
        values = " | ".join(str(metrics[metric]["value"]) for metric in _HEADLINE_METRICS)
        lines.append(f"| {arm} | {values} | {metrics[first]['unit']} |")
    return lines
