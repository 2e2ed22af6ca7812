"""Run the headline benchmark: every policy and the best training on human text alone.

A cell is one arm with one seed, a run in the store `headline` of the work folder. Its results are kept in
`results/headline` and are not computed again, here or in another clone; unfinished cells resume. `HEIRLOOM_MINUTES`
(60) limits the time in which cells are started, `HEIRLOOM_ONLY` (for example small-loop) selects cells by a part of
their name. Figures use the cells that exist and count the missing ones. Several commands may run at once: each takes
the next unlocked cell.
"""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.figures import RESULTS, WORK, Figure, short
from benchmarks.headline.arms import FULL, HUMAN, LOOP, PERPLEXITY, SMALL, Courses, Size, arms, best, mean
from benchmarks.headline.plot import draw_arms, draw_loops
from curation.splitting import IngestSettings
from flows.config.recipe import Recipe
from flows.config.site import Site
from flows.evolve import evolve
from storage.artifacts.artifact import read_manifest, read_table
from storage.readers.discovery import PYTHON_DOCS
from storage.runs.run import Run
from storage.runs.status import attempt_folders
from tasks.ingestion.ingest import ingest
from tasks.orchestration.prefect import without_prefect

_WORK = WORK / "headline"
_CELLS = RESULTS / "headline"
_PICTURES = Path(__file__).parents[2] / "docs"
_SEEDS = (0, 1, 2)
_METRICS = ("perplexity", "perplexity_at_best_temperature", "rare_word_coverage", "vocabulary_size")

Cell = tuple[Size, str, int]
Turn = dict[str, float]
"""What one generation's model is like."""


def measure() -> list[Figure]:
    """Add cells while there is time, then compute figures of the cells that exist."""
    deadline = time.monotonic() + 60 * float(os.environ.get("HEIRLOOM_MINUTES", "60"))
    cells = [(size, arm, seed) for size in (SMALL, FULL) for seed in _SEEDS for arm in arms(size)]
    only = os.environ.get("HEIRLOOM_ONLY", "")
    for cell in cells:
        if only in _slug(cell) and time.monotonic() < deadline:
            _live(cell)
    missing = sum(not _note(cell).exists() for cell in cells)
    small, full = _curves(SMALL), _curves(FULL)
    _draw({SMALL: small, FULL: full})
    return [
        *_verdict(SMALL, small),
        *_verdict(FULL, full),
        *_underway(cells),
        *_table(SMALL, small),
        *_table(FULL, full),
        Figure("cells not run yet", missing, f"of {len(cells)}"),
    ]


def _live(cell: Cell) -> None:
    with _held(_WORK / f"{_slug(cell)}.lock") as mine:
        if not mine or _note(cell).exists():
            return
        size, arm, seed = cell
        store, asked = _WORK / "store", arms(size)[arm]
        recipe = Recipe.model_validate(
            {
                "dataset": size.name,
                **asked,
                "name": _slug(cell),
                "seed": seed,
                "train": {"backend": "transformer", **asked["train"]},
            }
        )
        with without_prefect():
            _split(store, size)
            evolve(recipe, Site(store=store))
        course = _course(cell)
        _CELLS.mkdir(exist_ok=True)
        first, last = course[0], course[-1]
        kept = {
            "turns": course,
            "coverage_last_over_first": last["rare_word_coverage"] / first["rare_word_coverage"],
            "synthetic_share": 1 - last["human_token_fraction"],
            "alarms": sum(turn["alarms"] for turn in course),
        }
        _note(cell).write_text(json.dumps(kept, indent=1))
        print(f"{recipe.name}: {[short(turn[PERPLEXITY]) for turn in course]}", flush=True)


def _split(store: Path, size: Size) -> None:
    with _held(_WORK / f"{size.name}.lock", wait=True):
        if not (store / "human" / size.name).exists():
            asked = IngestSettings(
                passage_length_chars=(80, 360),
                split_by="source",
                max_train_records=size.passages,
                max_heldout_records=300,
            )
            ingest(store, size.name, [PYTHON_DOCS], asked)


def _course(cell: Cell) -> list[Turn]:
    """Every finished generation of a cell's run."""
    firsts = (one for one in attempt_folders(Run(_WORK / "store", _slug(cell))) if one.name == "attempt=1")
    return [_turn(one) for one in firsts if (one / "model").exists() and (one / "metrics").exists()]


def _turn(attempt: Path) -> Turn:
    rows = read_table(attempt / "metrics").to_pylist()
    metrics = {row["metric"]: row["value"] for row in rows if row["subject"] == "model" and row["metric"] in _METRICS}
    facts = read_manifest(attempt / "model")["facts"]
    verdicts = attempt / "verdict"
    alarms = sum(row["action"] != "go" for row in read_table(verdicts).to_pylist()) if verdicts.exists() else 0
    shares = {name: facts[name] for name in ("human_token_fraction", "tokens")}
    return {**metrics, **shares, "alarms": alarms}


def _curves(size: Size) -> dict[str, list[list[Turn]]]:
    """The courses of every arm of a size, one a seed, as far as they are there."""
    return {arm: [list(one["turns"]) for one in _kept(size, arm)] for arm in arms(size)}


def _kept(size: Size, arm: str) -> list[dict[str, Any]]:
    """What the seeds of an arm came to.

    Of some no more was kept than the last model and what the loop's verdict wants.
    """
    notes = (_note((size, arm, seed)) for seed in _SEEDS)
    return [dict(json.loads(note.read_text())) for note in notes if note.exists()]


def _draw(curves: dict[Size, dict[str, list[list[Turn]]]]) -> None:
    """The last models of all arms; and the loops by generation, where every generation of each seed was kept."""
    draw_arms(curves, _PICTURES / "headline-arms.png")
    loops = {size: courses[best(courses, LOOP)] for size, courses in curves.items() if best(courses, LOOP)}
    if loops and all(len(course) > size.generations for size, courses in loops.items() for course in courses):
        draw_loops(curves, _PICTURES / "headline.png")
    else:
        print("docs/headline.png stays as it is: of some loops only the last generation was kept", flush=True)


def _verdict(size: Size, curves: Courses) -> Iterator[Figure]:
    """The best loop against the best human-only training, each the mean of its seeds, at the best temperature."""
    arm, human = best(curves, LOOP), best(curves, HUMAN)
    if not arm or not human:
        return
    kept, begun = _kept(size, arm), f"{size.passages:,} passages"
    ours, theirs = mean(curves[arm], PERPLEXITY), mean(curves[human], PERPLEXITY)
    gain = 1 - ours / theirs
    covered = min(one["coverage_last_over_first"] for one in kept)
    share = min(one["synthetic_share"] for one in kept)
    alarms = sum(one["alarms"] for one in kept)
    length = f"{size.generations} generations, {len(kept)} seed{'s'[: len(kept) > 1]}"
    for name, value, unit, goal, holds in (
        (f"best loop ({arm}; {length}): perplexity at best temperature, last generation", short(ours), "", "", None),
        (f"best human-only ({human}): perplexity at best temperature", short(theirs), "", "", None),
        ("loop below best human-only", short(gain), "share", ">= 0.03", gain >= 0.03),
        (
            "rare-word coverage of the loop, last / first generation, minimum over seeds",
            short(covered),
            "ratio",
            "> 1",
            covered > 1,
        ),
        ("synthetic share of training tokens, minimum over seeds", short(share), "share", ">= 0.5", share >= 0.5),
        ("gate violations, all seeds", alarms, "", "0", alarms == 0),
    ):
        yield Figure(f"{begun}: {name}", value, unit, goal, holds)


def _underway(cells: list[Cell]) -> Iterator[Figure]:
    """How far the loops are that have no figures yet."""
    for cell in cells:
        size, arm, seed = cell
        course = _course(cell) if arm.startswith(LOOP) and not _note(cell).exists() else []
        if course[1:]:
            name = f"not finished: {size.passages:,} passages, {arm}, seed {seed}: perplexity at best temperature"
            yield Figure(
                name, short(course[-1][PERPLEXITY]), f"after {len(course) - 1} of {size.generations} generations"
            )


def _table(size: Size, curves: Courses) -> Iterator[Figure]:
    for arm, courses in curves.items():
        for metric in _METRICS[:3] if courses else ():
            values = [course[-1][metric] for course in courses]
            width = f"{short(min(values))} to {short(max(values))}, {len(values)} seeds" if values[1:] else "1 seed"
            yield Figure(f"{size.name}, {arm}: {metric.replace('_', ' ')}", short(mean(courses, metric)), width)


def _slug(cell: Cell) -> str:
    size, arm, seed = cell
    plain = "".join(letter if letter.isalnum() or letter == "." else "-" for letter in f"{size.name}-{arm}")
    return f"{plain}-{seed}".replace("--", "-")


def _note(cell: Cell) -> Path:
    return _CELLS / f"{_slug(cell)}.json"


@contextmanager
def _held(lock: Path, wait: bool = False) -> Iterator[bool]:
    """Yield whether this command holds the lock; the lock ends with the process."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True
