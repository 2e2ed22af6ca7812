"""One set of worker processes for all tests of tasks, a generation 0 to build on, and candidates by hand."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest

from curation.mixing import MixSettings
from flows.recipe import Site
from storage.artifact import Artifact
from storage.records import CANDIDATES, DECISIONS, SYNTHETIC, synthetic_id, text_digest
from storage.run import Attempt, Run
from tasks.backends import Corpus, Lesson, NgramTraining, Resources, TransformerTraining
from tasks.backends.pool import Backends, open_backends
from tasks.ingest import pinned_human
from tasks.mix import mix
from tasks.train import train
from tests.conftest import human_texts


@pytest.fixture(scope="session")
def resources() -> Resources:
    """Little memory, one thread, one process of each kind."""
    return Resources(kv_cache_mib=16, max_num_seqs=64)


@pytest.fixture(scope="session")
def backends(resources: Resources, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backends]:
    """Worker processes, started when first needed and shared by all tests here."""
    with open_backends(resources, tmp_path_factory.mktemp("logs")) as opened:
        yield opened


@pytest.fixture
def site(tmp_path: Path, resources: Resources) -> Site:
    """A store of its own, on the shared processes."""
    return Site(store=tmp_path / "store", resources=resources)


@dataclass(frozen=True)
class Beginning:
    """Generation 0 of one run."""

    run: Run
    reserve: Artifact
    heldout: Artifact
    corpus: Artifact
    model: Artifact

    def attempt(self, generation: int) -> Attempt:
        return Attempt(self.run, generation)


@pytest.fixture
def begin(ingested: Site, backends: Backends) -> Callable[[str], Beginning]:
    """Make generation 0 of a run of that name, on the n-gram backend."""

    def made(name: str) -> Beginning:
        run = Run(ingested.store, name)
        run.begin({}, set(), {})
        attempt = Attempt(run, 0)
        human = pinned_human(attempt, "letters")
        corpus = mix(attempt, human["reserve"], [], MixSettings(), 0)
        model = train(attempt, corpus, human["heldout"], None, NgramTraining(), 0, backends)
        return Beginning(run, human["reserve"], human["heldout"], corpus, model)

    return made


Said = Callable[..., tuple[Artifact, Artifact]]


@pytest.fixture
def said() -> Said:
    """Publish candidates with these texts, and decisions that drop those at the places in `dropped`."""

    def publish(attempt: Attempt, texts: Sequence[str], dropped: Sequence[int] = ()) -> tuple[Artifact, Artifact]:
        ids = [synthetic_id(attempt.generation, attempt.number, place) for place in range(len(texts))]
        rows = [
            {
                "id": identity,
                "text": text,
                "origin": SYNTHETIC,
                "born": attempt.generation,
                "source": "",
                "digest": text_digest(text),
            }
            for identity, text in zip(ids, texts, strict=True)
        ]
        decided = [
            {"id": identity, "stage": "exact", "kept": place not in dropped, "reason": ""}
            for place, identity in enumerate(ids)
        ]
        candidates = attempt.artifact("candidates", {"by": "hand"})
        decisions = attempt.artifact("decisions", {"by": "hand"}, candidates=candidates)
        for artifact, content, schema in ((candidates, rows, CANDIDATES), (decisions, decided, DECISIONS)):
            with artifact.draft() as draft:
                draft.write_part(pa.Table.from_pylist(content, schema=schema))
        return candidates, decisions

    return publish


@pytest.fixture(scope="session")
def tiny() -> TransformerTraining:
    """The smallest transformer that vLLM's CPU kernels take."""
    return TransformerTraining(
        steps=8,
        human_only_steps=8,
        hidden=64,
        layers=1,
        heads=2,
        context=64,
        vocabulary=400,
        batch=4,
        precision="float32",
    )


@dataclass(frozen=True)
class Trained:
    """A model folder, and what its training reported."""

    folder: Path
    lesson: Lesson
    corpus: Corpus


@pytest.fixture(scope="session")
def first(backends: Backends, tiny: TransformerTraining, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A transformer of human text alone."""
    folder = tmp_path_factory.mktemp("first")
    corpus = Corpus(human_texts(60), [])
    return Trained(folder, backends.trainer(tiny).train(corpus, [], None, folder, 1, lambda *_: None), corpus)


@pytest.fixture(scope="session")
def second(
    backends: Backends, tiny: TransformerTraining, first: Trained, tmp_path_factory: pytest.TempPathFactory
) -> Trained:
    """A descendant of it, one part in three human; the same shape, other weights."""
    folder = tmp_path_factory.mktemp("second")
    corpus = Corpus(human_texts(20, seed=5), human_texts(40, seed=6))
    return Trained(folder, backends.trainer(tiny).train(corpus, [], first.folder, folder, 2, lambda *_: None), corpus)
