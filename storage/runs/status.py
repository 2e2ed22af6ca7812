"""Where a run stands: which attempts count, what each came to, who is writing, and what is in its way."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from storage.artifacts.artifact import MANIFEST, read_manifest, read_table
from storage.artifacts.model_files import removed_weight_files
from storage.files import folder_size
from storage.runs.run import Attempt, Run, runs


@dataclass(frozen=True)
class AttemptSummary:
    """One attempt at one generation in numbers; what is not made yet, or does not apply, is None."""

    generation: int
    attempt: int
    accepted: bool
    candidates: int | None
    survivors: int | None
    corpus: int | None
    human_fraction: float | None
    perplexity: float | None
    verdict: str | None
    work_seconds: float
    bytes: int
    has_weights: bool
    """Whether the model can still speak."""
    tokens: int
    """Tokens spoken and learned from."""
    gpu_seconds: float
    """Seconds times the cards that could be used meanwhile: one that waits is paid, too."""


def accepted_attempts(run: Run) -> set[tuple[int, int]]:
    """Attempts that count, as (generation, attempt): the newest of each that the journal does not call rejected."""
    rejected = {(entry["generation"], entry["attempt"]) for entry in run.journal() if entry["event"] == "rejected"}
    newest: dict[int, int] = {}
    for folder in run.folder.glob("generation=*/attempt=*"):
        generation, attempt = attempt_numbers(folder)
        if (generation, attempt) not in rejected:
            newest[generation] = max(attempt, newest.get(generation, 0))
    return set(newest.items())


def attempt_numbers(attempt: Path) -> tuple[int, int]:
    """Generation and attempt of an attempt's folder."""
    return int(attempt.parent.name.split("=")[1]), int(attempt.name.split("=")[1])


def attempt_folders(run: Run) -> list[Path]:
    """Folder of every attempt of a run, in order."""
    return sorted(run.folder.glob("generation=*/attempt=*"), key=attempt_numbers)


def artifact_folders(root: Path, only: Sequence[str] = ()) -> Iterator[Path]:
    """Every artifact of a store, human text first; of the runs named in `only`, if any are. Drafts are none."""
    human = (place for kind in ("snapshot=*", "eval_sets/*") for place in (root / "human").glob(f"*/{kind}"))
    places = [] if only else sorted(human)
    places += [folder for run in runs(root) if not only or run.name in only for folder in attempt_folders(run)]
    for place in places:
        yield from sorted(path for path in place.iterdir() if path.is_dir() and not path.name.startswith("."))


def is_human(artifact: Path) -> bool:
    """Whether an artifact is human text, and of no run."""
    return not artifact.parent.name.startswith("attempt=")


def journal_entry(attempt: Attempt, event: str) -> dict[str, Any] | None:
    """What the journal says of such an event of an attempt."""
    return attempt.run.journal_entry(event, attempt.generation, attempt.number)


def rejected_by_review(attempt: Attempt) -> dict[str, str]:
    """Records that people have rejected in reviews before this attempt began: id to what is said of it."""
    return {
        identity: f"rejected in the review of generation {entry['generation']}"
        for entry in attempt.run.journal()
        if entry["event"] == "reviewed"
        and (entry["generation"], entry["attempt"]) < (attempt.generation, attempt.number)
        for identity in entry["rejected_ids"]
    }


def last_accepted_generation(run: Run) -> int | None:
    """The newest generation that was accepted, and not rejected since; None before the first is."""
    told: dict[str, set[tuple[int, int]]] = {"accepted": set(), "rejected": set()}
    for entry in run.journal():
        told.get(entry["event"], set()).add((entry["generation"], entry["attempt"]))
    return max((generation for generation, _ in told["accepted"] - told["rejected"]), default=None)


def run_state(run: Run) -> str:
    """Where a run stands, in words."""
    if writer := run.lock_holder():
        return f"being written by {writer}"
    reached, last = last_accepted_generation(run), run.recipe()["num_generations"]
    for entry in run.journal():
        if entry["event"] == "stopped" and entry["generation"] == reached:
            return f"stopped at generation {reached}: {entry['reason']}"
        if entry["event"] == "rolled_back":
            return f"rolled back: {entry['reason']}"
    if reached is not None and reached >= last:
        return "finished"
    following = 0 if reached is None else reached + 1
    begun = (run.folder / f"generation={following}").exists()
    return f"interrupted in generation {following}" if begun else f"waits before generation {following}"


def attempt_summaries(run: Run) -> list[AttemptSummary]:
    """Every attempt of a run, in order."""
    accepted = accepted_attempts(run)
    return [_summarize_attempt(folder, attempt_numbers(folder) in accepted) for folder in attempt_folders(run)]


def work_seconds(
    manifests: Collection[Mapping[str, Any]], weight: Callable[[Mapping[str, Any]], float] = lambda _: 1
) -> float:
    """Seconds in which artifacts were in the making, by their manifests, each multiplied by the most that `times` says of one of them.

    Embeddings are made while decisions are: no second counts twice.
    """
    edges = sorted({manifest[edge] for manifest in manifests for edge in ("started", "finished")})
    return sum(
        (until - since)
        * max((weight(one) for one in manifests if one["started"] <= since < one["finished"]), default=0)
        for since, until in pairwise(edges)
    )


def _summarize_attempt(folder: Path, accepted: bool) -> AttemptSummary:
    found: dict[str, dict[str, Any]] = {
        path.parent.name: read_manifest(path.parent) for path in folder.glob(f"[!.]*/{MANIFEST}")
    }
    facts = {key: value for manifest in found.values() for key, value in manifest["facts"].items()}
    generation, attempt = attempt_numbers(folder)
    return AttemptSummary(
        generation,
        attempt,
        accepted,
        found["candidates"]["rows"] if "candidates" in found else None,
        facts.get("survivors"),
        found["corpus"]["rows"] if "corpus" in found else None,
        facts.get("human_fraction"),
        _perplexity(folder / "metrics") if "metrics" in found else None,
        facts.get("action"),
        work_seconds(found.values()),
        folder_size(folder),
        "model" in found and not removed_weight_files(folder / "model"),
        (facts.get("tokens") or 0) + (facts.get("generated_tokens") or 0),
        work_seconds(found.values(), lambda manifest: manifest["provenance"].get("visible_gpus", 0)),
    )


def _perplexity(metrics: Path) -> float | None:
    table = read_table(metrics, ["subject", "metric", "value"])
    rows = table.filter(pc.and_(pc.equal(table["subject"], "model"), pc.equal(table["metric"], "perplexity")))
    return rows["value"][0].as_py() if len(rows) else None


def artifact_folders_of(attempt: Attempt) -> list[Path]:
    """Every finished artifact of one attempt."""
    return [
        folder for folder in artifact_folders(attempt.run.root, [attempt.run.name]) if folder.parent == attempt.folder
    ]
