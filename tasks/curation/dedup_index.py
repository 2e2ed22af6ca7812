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

from curation.decisions import Known
from curation.dedup.exact import exact_keys
from curation.dedup.minhash import SIGNATURE_FORMAT, MinHashSettings, band_hashes, halves, signatures
from curation.dedup.reference import Sketched
from curation.pipeline import CurateSettings
from storage.artifacts.artifact import MANIFEST, Artifact, read_manifest, read_table
from storage.artifacts.parquet_io import write_parquet
from storage.artifacts.schemas import index
from storage.artifacts.survivors import read_survivors
from storage.index.sketch_index import Index
from storage.runs.run import Attempt
from tasks.orchestration.runners import spread

_PART = 100_000
"""Records in a part: a second of work, some fifty megabytes."""
_MADE_BY = {"shingle_unit", "shingle_length", "bands", "rows"}
Pairs = Sequence[tuple[Artifact, Artifact]]
"""Candidates and decisions of generations, oldest first."""


def index_survivors(candidates: Artifact, decisions: Artifact, settings: MinHashSettings) -> Artifact:
    """The index of what survived, published beside the decisions if it is not there."""
    artifact = _artifact(decisions.folder.with_name("index"), settings, decisions=decisions)
    if not artifact.finished():
        _write(artifact, read_survivors(candidates.folder, decisions.folder), settings)
    return artifact


def index_reserve(attempt: Attempt, reserve: Artifact, settings: MinHashSettings, earlier: Pairs) -> Artifact:
    """The index of the reserve: an earlier generation's, or else this one's."""
    for folder in [made.folder.with_name("reserve_index") for made, _ in earlier]:
        artifact = _artifact(folder, settings, reserve=reserve)
        # Another one there is of another snapshot.
        if (folder / MANIFEST).exists() and read_manifest(folder)["fingerprint"] == artifact.fingerprint:
            return artifact
    artifact = _artifact(attempt.folder / "reserve_index", settings, reserve=reserve)
    if not artifact.finished():
        _write(artifact, read_table(reserve.folder, ["id", "digest", "born", "text"]), settings)
    return artifact


def open_past(attempt: Attempt, reserve: Artifact, earlier: Pairs, settings: CurateSettings) -> dict[str, "Indexed"]:
    """What each sieve of duplicates is held against, by its name; makes every index that is not there.

    Nothing where common shingles are masked: which these are depends on all texts, and the sketches on them.
    """
    if settings.minhash.mask_common is not None:
        return {}
    past: dict[str, Indexed] = {}
    if "copying" in settings.stages:
        past["copying"] = Indexed([(index_reserve(attempt, reserve, settings.minhash, earlier), reserve)])
    if {"exact", "minhash"} & {*settings.stages}:
        told = [(index_survivors(*pair, settings.minhash), pair[0]) for pair in earlier]
        past["exact"] = past["minhash"] = Indexed(told)
    return past


def sketched_once(folder: Path, records: Iterable[pa.Table], settings: MinHashSettings) -> list[Path]:
    """Files of sketches with their texts, one for each table of `id`, `digest`, `born` and `text`, for an `Indexed` that stays nowhere."""
    folder.mkdir(parents=True)
    files = []
    for number, table in enumerate(records):
        files.append(folder / f"{number:05d}.parquet")
        write_parquet(sketch(table, settings).append_column("text", table["text"]), files[-1])
    return files


class Indexed:
    """A `curation.sketched.Past` of stored indexes, each with the artifact that holds its texts, or of files that hold both."""

    def __init__(self, tables: Pairs = (), files: Sequence[Path] = ()) -> None:
        self._index = Index([(made.folder, texts.folder) for made, texts in tables] or [(file, file) for file in files])

    def meet(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Places of these records in the index, and nothing more of them."""
        return self._index.near(hashes)

    def same(self, keys: NDArray[np.uint64]) -> Known:
        """Records with one of these exact keys."""
        places = self._index.same(keys)
        told = self._index.take(places, ["id", "born"])
        return Known(told["id"].to_pylist(), self._index.texts(places), told["born"].to_pylist())

    def near(self, hashes: NDArray[np.uint64]) -> Sketched:
        """Records that share a band with one of these."""
        places = self.meet(hashes)
        bands = [f"band_{band}" for band in range(hashes.shape[1])]
        told = self._index.take(places, ["id", "born", "signature", *bands])
        found = [told[name].to_numpy() for name in bands]
        texts: list[str] = []

        def read(rows: NDArray[np.int64]) -> list[str]:
            # All at once where one is asked for: what costs is unpacking the row groups, which are the same for few and many.
            if not texts:
                texts.extend(self._index.texts(places))
            return [texts[row] for row in rows]

        return Sketched(
            told["id"].to_pylist(),
            told["born"].to_pylist(),
            stored_signatures(told["signature"]),
            np.stack(found, axis=1) if len(places) else hashes[:0],
            read,
        )


def stored_signatures(column: pa.ChunkedArray) -> NDArray[np.uint32]:
    """Halves of signatures from the column of an index, shape (records, values)."""
    told = b"".join(column.to_pylist())
    return np.frombuffer(told, "<u2").reshape(len(column), -1 if told else 0).astype(np.uint32)


def sketch(records: pa.Table, settings: MinHashSettings) -> pa.Table:
    """The rows of an index of records with `id`, `digest`, `born` and `text`."""
    found = signatures(records["text"], settings)
    hashes = band_hashes(found, settings)
    keys = exact_keys(records["text"].to_pylist())
    values = found.shape[1]
    stored = pa.py_buffer(np.ascontiguousarray(halves(found), "<u2"))
    columns = [
        *(records[name] for name in ("id", "digest", "born")),
        *keys.T,
        pa.Array.from_buffers(pa.binary(2 * values), len(found), [None, stored]),
        *hashes.T,
    ]
    return pa.table(columns, schema=index(values, settings.bands))


def _artifact(folder: Any, settings: MinHashSettings, **parents: Artifact) -> Artifact:  # noqa: ANN401
    made_by = {"format": SIGNATURE_FORMAT, **settings.model_dump(mode="json", include=_MADE_BY)}
    return Artifact(folder, made_by, {name: parent.fingerprint for name, parent in parents.items()})


def _write(artifact: Artifact, records: pa.Table, settings: MinHashSettings) -> None:
    named = records.select(["id", "digest", "born", "text"])
    with artifact.draft() as draft:
        starts = range(draft.parts() * _PART, max(1, len(records)), _PART)
        # Taken, not sliced: a slice travels with all that it was cut from.
        pieces = ((named.take(np.arange(start, min(start + _PART, len(named)))), settings) for start in starts)
        # A lone part is not worth the journey.
        made = spread(sketch, pieces, "sketch", ahead=8) if len(starts) > 1 else starmap(sketch, pieces)
        for number, part in enumerate(made, draft.parts()):
            draft.write_part(part, number)
