"""Tables of what was measured, for the pages that show it; `reference` writes them."""

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
_RESULTS = ROOT / "benchmarks/results"
_HEAD = ("| figure | value | goal | holds |", "|---|--:|---|---|")


def readme() -> str:
    """The front page, its table anew."""
    return _filled((ROOT / "README.md").read_text(), "results", _results())


def _filled(text: str, name: str, lines: list[str]) -> str:
    """A page with these lines between the two marks of that name."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, _, rest = text.partition(begin)
    return "\n".join([f"{before}{begin}", *lines, f"{end}{rest.partition(end)[2]}"])


_TOLD = {
    "demo": ("naive: held-out perplexity, last over", "guarded: held-out perplexity", "guarded: rare-word coverage"),
    "dedup": ("CPU of datasketch bulk over ours", "ours: recall, exact truth", "ours: precision, exact truth"),
    "generation": ("generate beside a bare LLM.generate", "10,000 candidates, killed in the middle: rows"),
    "headline": ("500 passages: how far the loop", "1,500 passages: how far the loop"),
    "operate": ("worker-killed: finished after", "CPU time of the Prefect run", "threads and a local Ray cluster"),
    "storage": ("asking 1,000,000 records: record_history a candidate", "transformer and vLLM: files unlike"),
    "training": ("the fast path: CPU time", "killed and resumed: files that differ"),
}
"""What the front page tells of each benchmark, by how the name of a figure begins; and what was missed, it tells in any case."""


def _results() -> list[str]:
    """The front page's choice, every goal that was missed, and how many there are in all."""
    stated = [(name, one) for name, found in _measured() for one in found if one["goal"]]
    lines = [
        _row(name, one) for name, one in stated if one["holds"] is False or one["name"].startswith(_TOLD.get(name, ()))
    ]
    decided = [one["holds"] for _, one in stated if one["holds"] is not None]
    count = f"{sum(decided)} of {len(decided)} goals hold; all of them: [docs/figures.md](docs/figures.md)."
    return [*_HEAD, *lines, "", count]


def figures() -> str:
    """Every figure there is, by benchmark."""
    lines = [
        "# Every figure",
        "",
        "Written from [benchmarks/results](../benchmarks/results) by `python docs/reference.py`.",
    ]
    for name, found in _measured():
        told = json.loads((_RESULTS / f"{name}.json").read_text())
        lines += [
            "",
            f"## {name}",
            "",
            f"`{told['command']}`, {told['seconds']:,.0f} s on {told['machine']}.",
            "",
            *_HEAD,
        ]
        lines += [_row("", one) for one in found]
    return "\n".join(lines) + "\n"


def _measured() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Figures by benchmark; reproductions have a page of their own."""
    for path in sorted(_RESULTS.glob("*.json")):
        if path.stem != "reproductions":
            yield path.stem, json.loads(path.read_text())["figures"]


def _row(name: str, figure: dict[str, Any]) -> str:
    unsaid = "not for this machine to say" if figure["goal"] else ""
    holds = {True: "yes", False: "**no**", None: unsaid}[figure["holds"]]
    title = f"{name}: {figure['name']}" if name else figure["name"]
    return f"| {title} | {figure['value']} {figure['unit']} | {figure['goal']} | {holds} |".replace("  ", " ")


def reproductions() -> str:
    """The published experiments, a table a row."""
    written = _RESULTS / "reproductions.json"
    figures = json.loads(written.read_text())["figures"] if written.exists() else []

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


_SHOWN = ("recalibrated perplexity", "perplexity", "rare word coverage")


def headline() -> str:
    """One row an arm, the best first; the goals above them."""
    told = json.loads((_RESULTS / "headline.json").read_text())["figures"]
    text = (ROOT / "docs/headline.md").read_text()
    goals = [_row("", one) for one in told if not one["name"].startswith(("small, ", "full, "))]
    tables = {"goals": [*_HEAD, *goals]} | {size: _arms(size, told) for size in ("small", "full")}
    for name, lines in tables.items():
        text = _filled(text, name, lines)
    return text


def _arms(size: str, told: list[dict[str, Any]]) -> list[str]:
    found: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for one in told:
        if one["name"].startswith(f"{size}, "):
            arm, _, metric = one["name"].removeprefix(f"{size}, ").rpartition(": ")
            found[arm][metric] = one
    if not found:
        return ["Not run yet."]
    lines = [f"| arm | {' | '.join(_SHOWN)} | least to most |", "|---|--:|--:|--:|---|"]
    for arm, metrics in sorted(found.items(), key=lambda item: item[1][_SHOWN[0]]["value"]):
        values = " | ".join(str(metrics[metric]["value"]) for metric in _SHOWN)
        lines.append(f"| {arm} | {values} | {metrics[_SHOWN[0]]['unit']} |")
    return lines
