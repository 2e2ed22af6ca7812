"""Status of a run: its attempts, which of them are accepted, the metrics of each one, and the state of the run."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import pyarrow.compute as pc

from storage.artifacts.artifact import MANIFEST, Manifest, read_manifest, read_table
from storage.artifacts.model_files import removed_weight_files
from storage.files import folder_size
from storage.names import is_name, number_of
from storage.runs.failure import last_failure
from storage.runs.run import Attempt, JournalEntry, Run, runs

AttemptKey = tuple[int, int]
"""Generation and number of an attempt."""


_GENERATE, _TRAIN, _MEASURE = (
    ("candidates",),
    ("base", "model"),
    ("eval_samples", "scores", "metrics", "collapse_tests"),
)
"""Artifacts by what they cost: generating, training and measuring."""


@dataclass(frozen=True, kw_only=True)
class StageSeconds:
    """Seconds of the three stages of an attempt in which models work; 0 where an artifact does not exist."""

    generate: float
    train: float
    measure: float

    @property
    def measure_share(self) -> float | None:
        """Seconds of measuring over those of generating; None in generation 0, which generates nothing."""
        return self.measure / self.generate if self.generate else None


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """What a run is doing or waiting for."""

    kind: Literal[
        "running", "finished", "stopped", "rolled back", "waiting for review", "failed", "interrupted", "ready"
    ]
    summary: str
    """The kind and the generation, in a few words."""
    reason: str = ""
    """Why it stopped or failed, or until when it waits."""

    def __str__(self) -> str:
        """Return the summary, with the reason."""
        return f"{self.summary}: {self.reason}" if self.reason else self.summary


@dataclass(frozen=True, kw_only=True)
class AttemptSummary:
    """One attempt at one generation in numbers; None stands for artifacts that do not exist yet or do not apply."""

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
    cost: "StageSeconds"
    bytes: int
    has_weights: bool
    """Whether the weights of the model exist and were not removed."""
    tokens: int
    """Tokens trained on plus tokens generated."""
    gpu_seconds: float
    """Work seconds times visible GPUs; an idle GPU counts too, since it is reserved."""


def select_accepted(attempts: Iterable[AttemptKey], journal: Iterable[JournalEntry]) -> set[AttemptKey]:
    """Return the newest attempt of each generation among those that the journal does not list as rejected."""
    rejected = {(entry["generation"], entry["attempt"]) for entry in journal if entry["event"] == "rejected"}
    # Sorted, so that the newest attempt of a generation is the last one that the dict takes.
    return set(dict(sorted(set(attempts) - rejected)).items())


def accepted_attempts(run: Run) -> set[AttemptKey]:
    """Return the accepted attempts of a run, see `select_accepted`."""
    return select_accepted(map(attempt_numbers, attempt_folders(run)), run.journal())


def attempt_numbers(attempt: Path) -> AttemptKey:
    """Return generation and number of an attempt from its folder, which is one of `attempt_folders`."""
    generation, number = number_of(attempt.parent.name, "generation"), number_of(attempt.name, "attempt")
    assert generation is not None and number is not None
    return generation, number


def attempt_folders(run: Run) -> list[Path]:
    """Return the folder of every attempt of a run, in order.

    Folders with other names and symbolic links are left out, as in `runs`.
    """
    folders = run.folder.glob("generation=*/attempt=*")
    return sorted(filter(is_attempt, folders), key=attempt_numbers)


def is_attempt(folder: Path) -> bool:
    """Return whether the last two names of a path are those of an attempt, and neither is a symbolic link."""
    is_numbered = (
        number_of(folder.parent.name, "generation") is not None and number_of(folder.name, "attempt") is not None
    )
    return is_numbered and not folder.is_symlink() and not folder.parent.is_symlink()


def is_snapshot(folder: Path) -> bool:
    """Return whether the last two names of a path are those of a dataset and a snapshot; neither is a symbolic link."""
    is_numbered = is_name(folder.parent.name) and number_of(folder.name, "snapshot") is not None
    return is_numbered and not folder.is_symlink() and not folder.parent.is_symlink()


def artifact_folders(root: Path, only: Sequence[str] = ()) -> Iterator[Path]:
    """Yield the folder of every artifact of a store, datasets first; of the runs named in `only` if any. No drafts."""
    parents = [] if only else human_folders(root)
    parents += [folder for run in runs(root) if not only or run.name in only for folder in attempt_folders(run)]
    for parent in parents:
        yield from sorted(path for path in parent.iterdir() if path.is_dir() and not path.name.startswith("."))


def human_folders(root: Path) -> list[Path]:
    """Return the folder of every snapshot and eval set of a store; names are checked as in `attempt_folders`."""
    snapshots = filter(is_snapshot, (root / "human").glob("*/snapshot=*"))
    eval_sets = (
        folder
        for folder in (root / "human").glob("*/eval_sets/*")
        if is_name(folder.name) and is_name(folder.parts[-3])
        if not any(path.is_symlink() for path in (folder, folder.parent, folder.parent.parent))
    )
    return sorted([*snapshots, *eval_sets])


def artifact_folders_of(attempt: Attempt) -> list[Path]:
    """Return the folder of every artifact of one attempt."""
    return [
        folder for folder in artifact_folders(attempt.run.root, [attempt.run.name]) if folder.parent == attempt.folder
    ]


def is_human(artifact: Path) -> bool:
    """Return whether an artifact belongs to a dataset and not to a run."""
    return not artifact.parent.name.startswith("attempt=")


def journal_entry(attempt: Attempt, event: str) -> JournalEntry | None:
    """Return the journal entry of an event of an attempt, or None."""
    return attempt.run.journal_entry(event, attempt.generation, attempt.number)


def rejected_by_review(attempt: Attempt) -> dict[str, str]:
    """Return the reason by id for every record that a review rejected before this attempt."""
    return {
        record_id: f"rejected in the review of generation {entry['generation']}"
        for entry in attempt.run.journal()
        if entry["event"] == "reviewed"
        and (entry["generation"], entry["attempt"]) < (attempt.generation, attempt.number)
        for record_id in entry["rejected_ids"]
    }


def last_accepted_generation(run: Run) -> int | None:
    """Return the newest generation that was accepted and not rejected later; None if there is none."""
    attempts_by_event: dict[str, set[AttemptKey]] = {"accepted": set(), "rejected": set()}
    for entry in run.journal():
        if entry["event"] in attempts_by_event:
            attempts_by_event[entry["event"]].add((entry["generation"], entry["attempt"]))
    remaining = attempts_by_event["accepted"] - attempts_by_event["rejected"]
    return max((generation for generation, _ in remaining), default=None)


def run_status(run: Run) -> RunStatus:
    """Return what a run is doing or waiting for, from its lock, its journal and its last failure."""
    if writer := run.lock_holder():
        return RunStatus(kind="running", summary=f"being written by {writer}")
    journal, reached = run.journal(), last_accepted_generation(run)
    following = 0 if reached is None else reached + 1
    if ended := _ended_status(journal, reached):
        return ended
    target = run.recipe().get("num_generations")
    if isinstance(target, int) and following > target:
        return RunStatus(kind="finished", summary="finished")
    return _unfinished_status(run, journal, following)


def _unfinished_status(run: Run, journal: Sequence[JournalEntry], following: int) -> RunStatus:
    """Return the status of a run that no process writes, and whose next generation is `following`."""
    if failure := last_failure(run):
        return RunStatus(kind="failed", summary=f"failed in generation {following}", reason=failure.reason)
    if (deadline := _open_review(journal, following)) is not None:
        return RunStatus(
            kind="waiting for review",
            summary=f"waits for the review of generation {following}",
            reason=f"answer until {time.strftime('%Y-%m-%d %H:%M', time.localtime(deadline))}",
        )
    if (run.folder / f"generation={following}").exists():
        return RunStatus(kind="interrupted", summary=f"interrupted in generation {following}")
    return RunStatus(kind="ready", summary=f"waits before generation {following}")


def _ended_status(journal: Sequence[JournalEntry], reached: int | None) -> RunStatus | None:
    """Return the status of a run that a gate, a review or a budget ended; None if it was not ended."""
    for entry in journal:
        if entry["event"] == "stopped" and entry["generation"] == reached:
            return RunStatus(kind="stopped", summary=f"stopped at generation {reached}", reason=entry["reason"])
        if entry["event"] == "rolled_back":
            return RunStatus(kind="rolled back", summary="rolled back", reason=entry["reason"])
    return None


def _open_review(journal: Sequence[JournalEntry], generation: int) -> float | None:
    """Return the deadline of a review of the generation that has no answer, in seconds since 1970; None if none is."""
    reviewed = {(entry["generation"], entry["attempt"]) for entry in journal if entry["event"] == "reviewed"}
    deadlines = [
        entry["deadline"]
        for entry in journal
        if entry["event"] == "review_requested"
        and entry["generation"] == generation
        and (entry["generation"], entry["attempt"]) not in reviewed
    ]
    return deadlines[-1] if deadlines else None


def run_state(run: Run) -> str:
    """Describe the state of a run in a few words, with its reason."""
    return str(run_status(run))


def attempt_summaries(run: Run) -> list[AttemptSummary]:
    """Return a summary of every attempt of a run, in order."""
    accepted = accepted_attempts(run)
    return [_summarize_attempt(folder, attempt_numbers(folder) in accepted) for folder in attempt_folders(run)]


def attempt_summary(attempt: Attempt) -> AttemptSummary:
    """Return the summary of one attempt."""
    key = (attempt.generation, attempt.number)
    return _summarize_attempt(attempt.folder, key in accepted_attempts(attempt.run))


def work_seconds(manifests: Collection[Manifest], weight: Callable[[Manifest], float] = lambda _: 1) -> float:
    """Return the seconds in which at least one of the artifacts was in progress; overlapping times count once.

    Args:
        manifests: manifests of the artifacts, with `started` and `finished`.
        weight: factor of an artifact's seconds, such as its GPUs; where artifacts overlap, the largest factor counts.
    """
    edges = sorted({manifest[edge] for manifest in manifests for edge in ("started", "finished")})
    total = 0.0
    for start, end in pairwise(edges):
        weights = [weight(manifest) for manifest in manifests if manifest["started"] <= start < manifest["finished"]]
        total += (end - start) * max(weights, default=0)
    return total


def stage_seconds(manifests: Mapping[str, Manifest]) -> StageSeconds:
    """Return the seconds by stage of the attempt with these manifests, by name of the artifact.

    An artifact that was copied from another run cost nothing here. Eval samples that are candidates of the next
    generation count as generating.
    """
    is_shared = "eval_samples" in manifests and "shared_with_generation" in manifests["eval_samples"]["settings"]

    def seconds(names: Sequence[str]) -> float:
        made = [manifests[name] for name in names if name in manifests]
        return work_seconds([manifest for manifest in made if "copied_from" not in manifest["facts"]])

    generate = (*_GENERATE, "eval_samples") if is_shared else _GENERATE
    measure = tuple(name for name in _MEASURE if name not in generate)
    return StageSeconds(generate=seconds(generate), train=seconds(_TRAIN), measure=seconds(measure))


def _summarize_attempt(folder: Path, accepted: bool) -> AttemptSummary:
    manifests: dict[str, Manifest] = {
        path.parent.name: read_manifest(path.parent) for path in folder.glob(f"[!.]*/{MANIFEST}")
    }
    facts = {key: value for manifest in manifests.values() for key, value in manifest["facts"].items()}
    generation, attempt = attempt_numbers(folder)
    return AttemptSummary(
        generation=generation,
        attempt=attempt,
        accepted=accepted,
        candidates=manifests["candidates"]["rows"] if "candidates" in manifests else None,
        survivors=facts.get("survivors"),
        corpus=manifests["corpus"]["rows"] if "corpus" in manifests else None,
        human_fraction=facts.get("human_fraction"),
        perplexity=_perplexity(folder / "metrics") if "metrics" in manifests else None,
        verdict=facts.get("action"),
        work_seconds=work_seconds(manifests.values()),
        cost=stage_seconds(manifests),
        bytes=folder_size(folder),
        has_weights="model" in manifests and not removed_weight_files(folder / "model"),
        tokens=(facts.get("tokens") or 0) + (facts.get("generated_tokens") or 0),
        gpu_seconds=work_seconds(manifests.values(), _visible_gpus),
    )


def _visible_gpus(manifest: Manifest) -> int:
    return int(manifest["provenance"].get("visible_gpus", 0))


def _perplexity(metrics: Path) -> float | None:
    table = read_table(metrics, ["subject", "metric", "value"])
    rows = table.filter(pc.and_(pc.equal(table["subject"], "model"), pc.equal(table["metric"], "perplexity")))
    return rows["value"][0].as_py() if len(rows) else None
