"""The index of what stays, beside every generation, and the past that a new generation is held against.

An index is made once, by the generation that it is of, or by the first later one that asks where an older Heirloom made none.
Of the past nothing is hashed again, and nothing is read but what is close to a new text. Texts that are of no generation, which
a new corpus is held against once, are met in the same way, by sketches in files that are thrown away.
"""

from collections.abc import Iterable, Sequence
from itertools import starmap
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curation.decisions import RecordSet
from curation.dedup.exact import exact_keys
from curation.dedup.minhash import SIGNATURE_FORMAT, MinHashSettings, band_hashes, signature_low16, signatures
from curation.dedup.reference import SketchBatch
from curation.pipeline import CurateSettings
from storage.artifacts.artifact import MANIFEST, Artifact, read_manifest, read_table
from storage.artifacts.parquet_io import write_parquet
from storage.artifacts.schemas import index_schema
from storage.index.sketch_index import SketchIndex
from storage.runs.run import Attempt
from tasks.context import CuratedCandidates
from tasks.orchestration.runners import map_pieces

_PART = 100_000
"""Records in a part: a second of work, some fifty megabytes."""
_INDEXED = ["id", "text_hash", "source_generation", "text"]
_MADE_BY = {"shingle_unit", "shingle_length", "num_bands", "rows_per_band"}


def index_survivors(curated: CuratedCandidates, settings: MinHashSettings) -> Artifact:
    """Publish the index of the survivors beside the decisions, unless it exists."""
    artifact = _artifact(curated.decisions.folder.with_name("index"), settings, decisions=curated.decisions)
    if not artifact.exists():
        _write(artifact, curated.survivors(_INDEXED), settings)
    return artifact


def index_human_train(
    attempt: Attempt, human_train: Artifact, settings: MinHashSettings, synthetic: Sequence[CuratedCandidates]
) -> Artifact:
    """The index of the reserve: an earlier generation's, or else this one's."""
    for folder in [curated.candidates.folder.with_name("human_train_index") for curated in synthetic]:
        artifact = _artifact(folder, settings, human_train=human_train)
        # Another one there is of another snapshot.
        if (folder / MANIFEST).exists() and read_manifest(folder)["fingerprint"] == artifact.fingerprint:
            return artifact
    artifact = _artifact(attempt.folder / "human_train_index", settings, human_train=human_train)
    if not artifact.exists():
        _write(artifact, read_table(human_train.folder, _INDEXED), settings)
    return artifact


def open_reference_indexes(
    attempt: Attempt, human_train: Artifact, synthetic: Sequence[CuratedCandidates], settings: CurateSettings
) -> dict[str, "StoredIndex"]:
    """What each sieve of duplicates is held against, by its name; makes every index that is not there.

    Nothing where common shingles are masked: which these are depends on all texts, and the sketches on them.
    """
    if settings.minhash.max_shingle_document_frequency is not None:
        return {}
    past: dict[str, StoredIndex] = {}
    if "human_overlap" in settings.filters:
        past["human_overlap"] = StoredIndex(
            [(index_human_train(attempt, human_train, settings.minhash, synthetic), human_train)]
        )
    if {"exact", "minhash"} & {*settings.filters}:
        told = [(index_survivors(curated, settings.minhash), curated.candidates) for curated in synthetic]
        past["exact"] = past["minhash"] = StoredIndex(told)
    return past


def build_temporary_index(folder: Path, records: Iterable[pa.Table], settings: MinHashSettings) -> list[Path]:
    """Files of sketches with their texts, one for each table of `id`, `text_hash`, `source_generation` and `text`, for an `StoredIndex` that stays nowhere."""
    folder.mkdir(parents=True)
    files = []
    for number, table in enumerate(records):
        files.append(folder / f"{number:05d}.parquet")
        write_parquet(compute_sketches(table, settings).append_column("text", table["text"]), files[-1])
    return files


class StoredIndex:
    """A `curation.sketched.ReferenceIndex` of stored indexes, each with the artifact that holds its texts, or of files that hold both."""

    def __init__(self, tables: Sequence[tuple[Artifact, Artifact]] = (), files: Sequence[Path] = ()) -> None:
        self._index = SketchIndex(
            [(made.folder, texts.folder) for made, texts in tables] or [(file, file) for file in files]
        )

    def intersect(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Places of these records in the index, and nothing more of them."""
        return self._index.candidate_matches(hashes)

    def exact_matches(self, keys: NDArray[np.uint64]) -> RecordSet:
        """Records with one of these exact keys."""
        places = self._index.exact_matches(keys)
        told = self._index.select(places, ["id", "source_generation"])
        return RecordSet(told["id"].to_pylist(), self._index.texts(places), told["source_generation"].to_pylist())

    def candidates(self, hashes: NDArray[np.uint64]) -> SketchBatch:
        """Records that share a band with one of these."""
        places = self.intersect(hashes)
        bands = [f"band_{band}" for band in range(hashes.shape[1])]
        told = self._index.select(places, ["id", "source_generation", "signature", *bands])
        found = [told[name].to_numpy() for name in bands]
        texts: list[str] = []

        def read(rows: NDArray[np.int64]) -> list[str]:
            # All at once where one is asked for: what costs is unpacking the row groups, which are the same for few and many.
            if not texts:
                texts.extend(self._index.texts(places))
            return [texts[row] for row in rows]

        return SketchBatch(
            told["id"].to_pylist(),
            told["source_generation"].to_pylist(),
            stored_signatures(told["signature"]),
            np.stack(found, axis=1) if len(places) else hashes[:0],
            read,
        )


def stored_signatures(column: pa.ChunkedArray) -> NDArray[np.uint32]:
    """Halves of signatures from the column of an index, shape (records, values)."""
    told = b"".join(column.to_pylist())
    return np.frombuffer(told, "<u2").reshape(len(column), -1 if told else 0).astype(np.uint32)


def compute_sketches(records: pa.Table, settings: MinHashSettings) -> pa.Table:
    """The rows of an index of records with `id`, `text_hash`, `source_generation` and `text`."""
    found = signatures(records["text"], settings)
    hashes = band_hashes(found, settings)
    keys = exact_keys(records["text"].to_pylist())
    values = found.shape[1]
    stored = pa.py_buffer(np.ascontiguousarray(signature_low16(found), "<u2"))
    columns = [
        *(records[name] for name in ("id", "text_hash", "source_generation")),
        *keys.T,
        pa.Array.from_buffers(pa.binary(2 * values), len(found), [None, stored]),
        *hashes.T,
    ]
    return pa.table(columns, schema=index_schema(values, settings.num_bands))


def _artifact(folder: Any, settings: MinHashSettings, **parents: Artifact) -> Artifact:  # noqa: ANN401
    made_by = {"format": SIGNATURE_FORMAT, **settings.model_dump(mode="json", include=_MADE_BY)}
    return Artifact(folder, made_by, {name: parent.fingerprint for name, parent in parents.items()})


def _write(artifact: Artifact, records: pa.Table, settings: MinHashSettings) -> None:
    named = records.select(_INDEXED)
    with artifact.draft() as draft:
        starts = range(draft.num_parts() * _PART, max(1, len(records)), _PART)
        # Taken, not sliced: a slice travels with all that it was cut from.
        pieces = ((named.take(np.arange(start, min(start + _PART, len(named)))), settings) for start in starts)
        # A lone part is not worth the journey.
        made = (
            map_pieces(compute_sketches, pieces, "sketch", max_pending=8)
            if len(starts) > 1
            else starmap(compute_sketches, pieces)
        )
        for number, part in enumerate(made, draft.num_parts()):
            draft.write_part(part, number)
