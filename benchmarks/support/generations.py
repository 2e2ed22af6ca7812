"""Generations of benchmarks that run some stages only."""

from storage.artifacts.artifact import Artifact
from storage.runs.run import Attempt
from tasks.context import CuratedCandidates, Generation


def partial_generation(attempt: Attempt, model: Artifact, curated: CuratedCandidates | None) -> Generation:
    """Describe an attempt that has a model and maybe candidates, and whose other artifacts are not published."""
    return Generation(
        attempt=attempt,
        curated=curated,
        corpus=attempt.artifact("corpus", {}),
        model=model,
        metrics=attempt.artifact("metrics", {}),
        verdict=attempt.artifact("verdict", {}),
    )
