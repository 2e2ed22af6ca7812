"""Indexes of sketches: of the survivors of each generation, of the human training records, and of reference files.

An index is published once, by the generation that it describes, or by the first later one that finds it missing. A new
generation then sketches its own candidates only, and reads no known text but those close to a candidate.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import starmap
from pathlib import Path

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

_PART_ROWS = 100_000
"""Records in a part: a second of work, about fifty megabytes."""
_INDEXED_COLUMNS = ["id", "text_hash", "source_generation", "text"]
_SKETCH_SETTINGS = {"normalization", "shingle_unit", "shingle_length", "num_bands", "rows_per_band"}


def index_survivors(curated: CuratedCandidates, settings: MinHashSettings) -> Artifact:
    """Publish the index of the survivors beside the decisions, unless it exists."""
    artifact = _artifact(curated.decisions.folder.with_name("index"), settings, decisions=curated.decisions)
    if not artifact.exists():
        _write(artifact, curated.survivors(_INDEXED_COLUMNS), settings)
    return artifact


def index_human_train(
    attempt: Attempt, human_train: Artifact, settings: MinHashSettings, synthetic: Sequence[CuratedCandidates]
) -> Artifact:
    """Open the index of the human training records that an earlier generation published, or publish one."""
    for folder in [curated.candidates.folder.with_name("human_train_index") for curated in synthetic]:
        artifact = _artifact(folder, settings, human_train=human_train)
        # An index with another fingerprint is of another snapshot.
        if (folder / MANIFEST).exists() and read_manifest(folder)["fingerprint"] == artifact.fingerprint:
            return artifact
    artifact = _artifact(attempt.folder / "human_train_index", settings, human_train=human_train)
    if not artifact.exists():
        _write(artifact, read_table(human_train.folder, _INDEXED_COLUMNS), settings)
    return artifact


@dataclass(frozen=True, kw_only=True)
class ReferenceIndexes:
    """The indexes that duplicate filters use instead of texts; None where no filter uses it, or none can be used."""

    human_train: "StoredIndex | None" = None
    survivors: "StoredIndex | None" = None


def open_reference_indexes(
    attempt: Attempt, human_train: Artifact, synthetic: Sequence[CuratedCandidates], settings: CurateSettings
) -> ReferenceIndexes:
    """Open the indexes that the filters need, and publish those that are missing.

    There are none if frequent shingles are left out: which ones these are depends on all texts that are compared.
    """
    if settings.minhash.max_shingle_document_frequency is not None:
        return ReferenceIndexes()
    needs = {need for each in settings.build_filters() for need in each.needs}
    human_index = survivor_index = None
    if "human_index" in needs:
        human_index = StoredIndex([(index_human_train(attempt, human_train, settings.minhash, synthetic), human_train)])
    if "survivor_index" in needs:
        survivor_index = StoredIndex(
            [(index_survivors(curated, settings.minhash), curated.candidates) for curated in synthetic]
        )
    return ReferenceIndexes(human_train=human_index, survivors=survivor_index)


def build_temporary_index(folder: Path, records: Iterable[pa.Table], settings: MinHashSettings) -> list[Path]:
    """Write one file of sketches and texts for each table of records; returns the files, for a `StoredIndex`.

    Args:
        folder: a new folder for the files.
        records: tables with the columns `id`, `text_hash`, `source_generation` and `text`.
        settings: how texts are sketched.
    """
    folder.mkdir(parents=True)
    files = []
    for number, table in enumerate(records):
        files.append(folder / f"{number:05d}.parquet")
        write_parquet(compute_sketches(table, settings).append_column("text", table["text"]), files[-1])
    return files


class StoredIndex:
    """A `curation.dedup.reference.ReferenceIndex` over stored sketches."""

    def __init__(self, tables: Sequence[tuple[Artifact, Artifact]] = (), files: Sequence[Path] = ()) -> None:
        """Open published indexes, each with the artifact of its texts, or files that hold sketches and texts."""
        folders = [(index.folder, texts.folder) for index, texts in tables]
        self._index = SketchIndex(folders or [(file, file) for file in files])

    def intersect(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Rows of the records that share a band with one of these hashes."""
        return self._index.candidate_matches(hashes)

    def exact_matches(self, keys: NDArray[np.uint64]) -> RecordSet:
        """Records with one of these exact keys."""
        rows = self._index.exact_matches(keys)
        table = self._index.select(rows, ["id", "source_generation"])
        return RecordSet(table["id"], self._index.texts(rows), table["source_generation"])

    def candidates(self, hashes: NDArray[np.uint64]) -> SketchBatch:
        """Records that share a band with one of these."""
        index_rows = self.intersect(hashes)
        bands = [f"band_{band}" for band in range(hashes.shape[1])]
        table = self._index.select(index_rows, ["id", "source_generation", "signature", *bands])
        band_columns = [table[name].to_numpy() for name in bands]
        texts: list[str] = []

        def read_texts(positions: NDArray[np.int64]) -> list[str]:
            # Read all texts at the first call: the cost is decompressing row groups, the same ones for few and for
            # many.
            if not texts:
                texts.extend(self._index.texts(index_rows))
            return [texts[position] for position in positions]

        return SketchBatch(
            table["id"].to_pylist(),
            table["source_generation"].to_pylist(),
            stored_signatures(table["signature"]),
            np.stack(band_columns, axis=1) if len(index_rows) else hashes[:0],
            read_texts,
        )


def stored_signatures(column: pa.ChunkedArray) -> NDArray[np.uint32]:
    """Lower 16 bits of signatures from the column of an index, shape (records, values)."""
    content = b"".join(column.to_pylist())
    return np.frombuffer(content, "<u2").reshape(len(column), -1 if content else 0).astype(np.uint32)


def compute_sketches(records: pa.Table, settings: MinHashSettings) -> pa.Table:
    """Sketch records with the columns `id`, `text_hash`, `source_generation` and `text`: the rows of an index."""
    computed = signatures(records["text"], settings)
    hashes = band_hashes(computed, settings)
    keys = exact_keys(records["text"].to_pylist())
    num_values = computed.shape[1]
    low16 = pa.py_buffer(np.ascontiguousarray(signature_low16(computed), "<u2"))
    columns = [
        *(records[name] for name in ("id", "text_hash", "source_generation")),
        *keys.T,
        pa.Array.from_buffers(pa.binary(2 * num_values), len(computed), [None, low16]),
        *hashes.T,
    ]
    return pa.table(columns, schema=index_schema(num_values, settings.num_bands))


def _artifact(folder: Path, settings: MinHashSettings, **parents: Artifact) -> Artifact:
    identity = {"format": SIGNATURE_FORMAT, **settings.model_dump(mode="json", include=_SKETCH_SETTINGS)}
    return Artifact(folder, identity, {name: parent.fingerprint for name, parent in parents.items()})


def _write(artifact: Artifact, records: pa.Table, settings: MinHashSettings) -> None:
    indexed = records.select(_INDEXED_COLUMNS)
    with artifact.draft() as draft:
        starts = range(draft.num_parts() * _PART_ROWS, max(1, len(indexed)), _PART_ROWS)
        # `take` copies the rows; a slice would be pickled with the whole table behind it.
        pieces = ((indexed.take(np.arange(start, min(start + _PART_ROWS, len(indexed)))), settings) for start in starts)
        if len(starts) > 1:
            parts = map_pieces(compute_sketches, pieces, "sketch", max_pending=8)
        else:
            # A single part is not worth starting processes.
            parts = starmap(compute_sketches, pieces)
        for number, part in enumerate(parts, draft.num_parts()):
            draft.write_part(part, number)
