"""What is said, measured: words, vectors, copies, and the user's own evaluations, of each subject beside human text."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.embeddings.encoders import open_encoder
from curation.filters.decontamination import OverlapSettings, find_overlaps
from curation.metrics.bootstrap import bootstrap
from curation.metrics.coverage import words_kept
from curation.metrics.embedding import neighbourhoods, spread
from curation.metrics.ngram_counts import Worded, first_words, size
from curation.metrics.settings import Measured, MeasureSettings
from curation.metrics.suite import changes, signs
from storage.artifacts.artifact import Artifact, as_made, read_table
from storage.artifacts.ids import seed_of
from storage.artifacts.model_files import speakable
from tasks.evaluation.custom_metrics import evaluate
from tasks.evaluation.inputs import Made, largest_sources, rows_of, sampled

_COPIED = 0.8
"""Jaccard similarity of shingles at or above which a candidate is a copy."""


def said_by(made: Made, voice: Artifact) -> dict[str, pa.Table]:
    """Records by subject: `reserve` to compare with, and what is compared. The opening is not what a model chose to say."""
    found = {"model": _spoken(voice)}
    there = {"reserve": made.reserve, "human": made.heldout, "candidates": made.candidates, "corpus": made.corpus}
    return found | {
        name: read_table(artifact.folder, ["id", "text", "source"]) for name, artifact in there.items() if artifact
    }


def measure_words(
    made: Made, voice: Artifact, texts: dict[str, pa.Table], settings: MeasureSettings, seed: int
) -> list[dict[str, object]]:
    """Signs of collapse in the words of each subject, of everything and source by source, and what has changed since generation 0."""
    rows = []
    for source in ["all", *largest_sources(made, settings)]:
        mine = {name: _of_source(table, source) for name, table in texts.items() if source == "all" or name != "model"}
        human = shuffled(mine.pop("reserve"), settings.sample_words)
        said = {name: shuffled(table, size(human)) for name, table in mine.items()}
        for subject, worded in said.items():
            rows += rows_of(subject, signs(human, worded), source)
        if source == "all":
            now = said["model"]
            then = shuffled(_spoken(as_made(made.first.folder / "voice") if made.first else voice), size(human))
            rows += rows_of("model", changes(human, then, now, seed_of(seed, "bootstrap")))
    kept, known = words_kept(*(texts[name]["text"].to_pylist() for name in ("reserve", "corpus")))
    return [*rows, *rows_of("corpus", [Measured("words_kept", kept, None, None, known)])]


def measure_vectors(texts: dict[str, pa.Table], settings: MeasureSettings, seed: int) -> list[dict[str, object]]:
    """How each subject lies among human records as vectors, on samples of one size."""
    encoder, dice = open_encoder(settings.encoder), seed_of(seed, "bootstrap")
    vectors = {
        name: encoder.encode(sampled(table, settings.sample_records)["text"].to_pylist())
        for name, table in texts.items()
    }
    human = vectors.pop("reserve")
    rows = []
    for subject, said in vectors.items():
        rows += rows_of(subject, neighbourhoods(human, said, dice) + spread(human, said, dice))
    return rows


def measure_copies(made: Made, settings: MeasureSettings) -> list[dict[str, object]]:
    """Share of a sample of candidates that repeats what their speaker learned from."""
    if not made.candidates or not made.learned:
        return []
    said = sampled(read_table(made.candidates.folder, ["id", "text"]), settings.sample_records)["text"].to_pylist()
    learned = read_table(made.learned.folder, ["text"])["text"].to_pylist()
    copied = find_overlaps(said, learned, OverlapSettings(threshold=_COPIED)).repeats
    share = float(copied.mean()) if len(copied) else 0.0
    return rows_of("candidates", [Measured("copied_share", share, *bootstrap(copied.astype(np.float64), 0), len(said))])


def measure_own(made: Made, texts: dict[str, pa.Table], settings: MeasureSettings) -> list[dict[str, object]]:
    """What the user's own evaluations say of the model and of each subject."""
    if not settings.own:
        return []
    rows = rows_of("model", evaluate(settings.own, "model", speakable(made.model), 0))
    for subject, table in texts.items():
        if subject != "reserve":
            rows += rows_of(subject, evaluate(settings.own, "texts", table["text"].to_pylist(), table.num_rows))
    return rows


def _of_source(table: pa.Table, source: str) -> pa.Table:
    return table if source == "all" else table.filter(pc.equal(table["source"], source))


def shuffled(table: pa.Table, most: int) -> Worded:
    """The first words of the texts in an order that is the same for the same number of texts."""
    texts = table["text"].to_pylist()
    return first_words((texts[place] for place in np.random.default_rng(0).permutation(len(texts))), most)


def _spoken(voice: Artifact) -> pa.Table:
    spoken = read_table(voice.folder, ["text"])["text"].to_pylist()[1:]
    ids = [f"v{place}" for place in range(len(spoken))]
    return pa.table({"id": ids, "text": pa.array(spoken, pa.string()), "source": [""] * len(ids)})
