"""Run the published experiments: a row per experiment, a figure per claim.

`goal` is the published result, `holds` whether ours agrees.

A row is a function that yields figures; its keyword defaults are its settings. Finished rows are kept with their
settings in `reproductions` of the work folder: an interrupted benchmark resumes, and a row with changed settings runs
again. docs/reproductions.md describes what was published, what runs here and the differences.
"""

import inspect
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from benchmarks.figures import RESULTS, WORK, Figure
from benchmarks.reproductions import curation as mixtures
from benchmarks.reproductions import error_sources as errors
from benchmarks.reproductions import language_model as language
from benchmarks.reproductions import points, sampling, theory
from benchmarks.reproductions import policies as toys
from benchmarks.reproductions import replay_games as games
from benchmarks.reproductions.attribute_grid import grid
from benchmarks.reproductions.loops import loops

Row = Callable[..., Iterator[Figure]]

ROWS: dict[str, Row] = {
    "policies": toys.policies,
    "policies-ngram": loops,
    "policies-transformer": partial(loops, backend="transformer", seeds=3, passages=300, epochs=6),
    "feedback": theory.feedback,
    "verification": theory.verification,
    "replay": games.replay,
    "chains": games.chains,
    "fresh-data": theory.fresh_data,
    "sources": errors.sources,
    "sources-transformer": errors.split,
    "recursive": language.recursive,
    "best-of": sampling.best_of,
    "teachers": sampling.teachers,
    "quota": sampling.quota,
    "operators": mixtures.operators,
    "grid": grid,
    "mixtures": points.mixtures,
    "digits": points.digits,
}
"""Adding a row takes a line here, and a section of its name in docs/reproductions.md."""

_WORK = WORK / "reproductions"
_TIME = "time taken"
_MINUTES = 90


def measure(
    chosen: Sequence[str] = (), rows: Mapping[str, Row] = ROWS, work: Path = _WORK, results: Path = RESULTS
) -> list[Figure]:
    """Run the chosen rows that are not remembered in `work`, all where none is chosen.

    The others stay as `results` has them.

    Raises:
        ValueError: there is no row of that name.
    """
    if unknown := sorted(set(chosen) - set(rows)):
        raise ValueError(f"there is no row {', '.join(unknown)}; rows: {', '.join(rows)}")
    figures = []
    for name, row in rows.items():
        figures += _remembered(name, row, work) if not chosen or name in chosen else _as_written(name, results)
    return [*figures, *_altogether(figures, whole=not chosen)]


def _altogether(figures: Sequence[Figure], *, whole: bool) -> list[Figure]:
    compared = [one.holds for one in figures if one.holds is not None]
    minutes = sum(float(one.value or 0) for one in figures if one.name.endswith(f": {_TIME}")) / 60
    return [
        Figure("all: claims that agree", f"{sum(compared)} of {len(compared)}", ""),
        Figure(f"all: {_TIME}", round(minutes, 1), "minutes", f"<= {_MINUTES}", minutes <= _MINUTES if whole else None),
    ]


def settings_of(row: Row) -> dict[str, object]:
    """The keyword defaults of a row, as JSON gives them back."""
    given = {name: one.default for name, one in inspect.signature(row).parameters.items()}
    return json.loads(json.dumps(given))


def _remembered(name: str, row: Row, work: Path) -> list[Figure]:
    note, settings = work / f"{name}.json", settings_of(row)
    stored = json.loads(note.read_text()) if note.exists() else {}
    if stored.get("settings") != settings:
        print(f"{name} ...", flush=True)
        started = time.monotonic()
        found = [replace(one, name=f"{name}: {one.name}") for one in row()]
        found.append(Figure(f"{name}: {_TIME}", round(time.monotonic() - started, 1), "s"))
        stored = {"settings": settings, "figures": [asdict(one) for one in found]}
        work.mkdir(parents=True, exist_ok=True)
        draft = note.with_suffix(".draft")
        draft.write_text(json.dumps(stored, indent=1))
        draft.rename(note)
    return [Figure(**one) for one in stored["figures"]]


def _as_written(name: str, results: Path) -> list[Figure]:
    path = results / "reproductions.json"
    figures = json.loads(path.read_text())["figures"] if path.exists() else []
    return [Figure(**one) for one in figures if one["name"].startswith(f"{name}: ")]
