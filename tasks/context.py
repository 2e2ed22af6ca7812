"""Typed inputs that the stages of a generation share.

Every stage is `stage(ctx, human, history, ...) -> Artifact`: the context of the attempt, the human data that it uses,
the generations before it, and the artifacts that earlier stages of the same generation published.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Self, runtime_checkable

import pyarrow as pa

from curation.gates import GateSettings
from curation.metrics.settings import EvalSettings
from curation.mixing import MixSettings
from curation.pipeline import CurateSettings
from curation.prompts.plan import PromptSettings
from curation.verification.settings import VerifySettings
from storage.artifacts.artifact import Artifact, load_artifact, read_manifest
from storage.artifacts.ids import derive_seed
from storage.artifacts.survivors import read_survivors
from storage.runs.run import Attempt
from storage.runs.status import artifact_folders_of
from tasks.backends import Sampling, Training
from tasks.backends.registry import Backends
from tasks.orchestration.arguments import Constant


@runtime_checkable
class StageRecipe(Protocol):
    """Sections of a recipe that stages read. A protocol, so that tasks do not import `flows.config`."""

    @property
    def seed(self) -> int:
        """Seed of the run; every random number generator is seeded from it."""
        ...

    @property
    def prompts(self) -> PromptSettings:
        """`[prompts]`."""
        ...

    @property
    def generate(self) -> Sampling:
        """`[generate]`."""
        ...

    @property
    def verify(self) -> VerifySettings:
        """`[verify]`."""
        ...

    @property
    def curate(self) -> CurateSettings:
        """`[curate]`."""
        ...

    @property
    def mix(self) -> MixSettings:
        """`[mix]`."""
        ...

    @property
    def train(self) -> Training:
        """`[train]`."""
        ...

    @property
    def evaluate(self) -> EvalSettings:
        """`[evaluate]`."""
        ...

    @property
    def gate(self) -> GateSettings:
        """`[gate]`."""
        ...


@dataclass(frozen=True, kw_only=True)
class StageContext(Constant):
    """What every stage of one attempt needs and no stage changes."""

    attempt: Attempt
    recipe: StageRecipe
    backends: Backends

    def seed(self, purpose: str, *index: int) -> int:
        """Derive the seed that one stage of this attempt uses for one purpose; see `attempt_seed`."""
        return attempt_seed(self.recipe.seed, self.attempt, purpose, *index)


@dataclass(frozen=True, kw_only=True)
class HumanData:
    """Human records that one attempt trains on, is evaluated on, and must not train on."""

    train: Artifact
    """Training pool of the snapshot that the attempt pins."""
    heldout: Artifact
    """Held-out set of the snapshot that the run began with, so that one evaluation set serves every generation."""
    protected: Mapping[str, Artifact]
    """Sets that neither prompts nor corpora may contain: `human_heldout` of the snapshot, and each eval set by name."""

    @property
    def eval_sets(self) -> dict[str, Artifact]:
        """Protected sets that were added as eval sets, by name."""
        return {name: artifact for name, artifact in self.protected.items() if name != "human_heldout"}

    @property
    def protected_parents(self) -> dict[str, Artifact]:
        """Protected sets by their names as parents in a manifest."""
        return {"human_heldout": self.protected["human_heldout"], **eval_set_parents(self.eval_sets)}


@dataclass(frozen=True, kw_only=True)
class CuratedCandidates:
    """Candidates of one generation, and the filter decisions about them."""

    candidates: Artifact
    decisions: Artifact
    check_results: Artifact | None = None
    """Results of the checks of the candidates, if the recipe verifies."""

    def survivors(self, columns: Sequence[str]) -> pa.Table:
        """Read the candidates that no filter dropped, in their order."""
        return read_survivors(self.candidates.folder, self.decisions.folder).select(list(columns))


@dataclass(frozen=True, kw_only=True)
class Generation:
    """Published artifacts of one finished attempt; generation 0 has no candidates."""

    attempt: Attempt
    curated: CuratedCandidates | None
    corpus: Artifact
    model: Artifact
    metrics: Artifact
    verdict: Artifact

    @classmethod
    def load(cls, attempt: Attempt) -> Self:
        """Load a finished attempt from its manifests, whatever the current recipe is."""
        artifacts = {folder.name: load_artifact(folder) for folder in artifact_folders_of(attempt)}
        curated = None
        if "candidates" in artifacts:
            curated = CuratedCandidates(
                candidates=artifacts["candidates"],
                decisions=artifacts["decisions"],
                check_results=artifacts.get("check_results"),
            )
        return cls(
            attempt=attempt,
            curated=curated,
            corpus=artifacts["corpus"],
            model=artifacts["model"],
            metrics=artifacts["metrics"],
            verdict=artifacts["verdict"],
        )

    @property
    def action(self) -> str:
        """Action that the gate chose, one of `curation.gates.ACTIONS`."""
        return str(read_manifest(self.verdict.folder)["facts"]["action"])

    @property
    def reasons(self) -> str:
        """Reasons of the gate; empty if every limit was kept."""
        return "; ".join(read_manifest(self.verdict.folder)["facts"]["reasons"])


@dataclass(frozen=True)
class GenerationHistory:
    """Accepted generations of a run, oldest first."""

    generations: tuple[Generation, ...] = ()

    def __len__(self) -> int:
        """Number of accepted generations."""
        return len(self.generations)

    def __iter__(self) -> Iterator[Generation]:
        """Iterate over the accepted generations, oldest first."""
        return iter(self.generations)

    @property
    def first(self) -> Generation | None:
        """Generation 0, once it is accepted."""
        return self.generations[0] if self.generations else None

    @property
    def last(self) -> Generation | None:
        """The newest accepted generation."""
        return self.generations[-1] if self.generations else None

    @property
    def synthetic(self) -> tuple[CuratedCandidates, ...]:
        """Candidates and decisions of every accepted generation that has any, oldest first."""
        return tuple(generation.curated for generation in self.generations if generation.curated)


def attempt_seed(seed: int, attempt: Attempt, purpose: str, *index: int) -> int:
    """Derive a seed from the run's seed, a purpose, the generation and attempt number, and further numbers."""
    return derive_seed(seed, purpose, attempt.generation, attempt.number, *index)


def eval_set_parents(eval_sets: Mapping[str, Artifact]) -> dict[str, Artifact]:
    """Eval sets by their names as parents in a manifest."""
    return {f"eval_set_{name}": artifact for name, artifact in eval_sets.items()}


def decision_parents(synthetic: Sequence[CuratedCandidates]) -> dict[str, Artifact]:
    """Decisions of several generations by their names as parents in a manifest."""
    return {f"decisions_{number}": curated.decisions for number, curated in enumerate(synthetic)}
