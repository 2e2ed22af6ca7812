"""The texts of any source by their file and their place in it, and those that a corpus is held against once.

What it is held against is not held in memory where sieves look only for repetitions: a part at a time is sketched into files that
are thrown away, and read again where it is close, as a run's earlier generations are (`tasks/curation/dedup_index.py`).
"""

import contextlib
import hashlib
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from curation.decisions import EMPTY_RECORDS, RecordSet
from curation.dedup.reference import ReferenceIndex
from curation.pipeline import CurateSettings
from heirloom.errors import HeirloomError
from storage.readers.discovery import find_files
from storage.readers.documents import read_documents

_WHOLE = {"decontamination", "importance_resampling", "semantic"}
"""Sieves that look at every text that is known."""
_SKETCHED = {"exact", "human_overlap", "minhash"}
_PART_ROWS, _PART_CHARACTERS = 65_536, 1 << 26


class Text(NamedTuple):
    """One text of a source; `reason` says why there is none."""

    id: str
    text: str
    file: str
    row_number: int
    reason: str


@dataclass(frozen=True)
class ReferenceTexts:
    """What a corpus is held against: whole, or by its sketches."""

    content_hash: str
    records: RecordSet = EMPTY_RECORDS
    indexes: Mapping[str, ReferenceIndex] = field(default_factory=dict)
    files: Sequence[Path] = ()
    """What holds the texts that are sketched."""

    def lookup(self, ids: Iterable[str]) -> dict[str, str]:
        """These texts by their ids, as far as they are of this side."""
        asked = {*ids}
        found = {one: text for one, text in zip(self.records.ids, self.records.texts, strict=True) if one in asked}
        if self.files:
            from storage.index.sketch_index import read_texts_by_id

            for file in self.files:
                found |= read_texts_by_id(file, pa.array(sorted(asked), pa.string()))
        return found


def read_texts(sources: Sequence[str], column: str, content: Any) -> Iterator[Text]:  # noqa: ANN401  (a digest)
    """Every text of some sources, in order; `content` is updated with those that can be read.

    Raises:
        HeirloomError: a source cannot be read, or holds no text.
    """
    for source in sources:
        readable = 0
        paths = {found.name: str(found.path) for found in find_files(source)}
        for document in read_documents(source, column):
            file = paths.get(document.source, f"{source}/{document.source}")
            # A lone surrogate can be read from JSON, and cannot be stored as UTF-8.
            encoded = document.content.encode("utf-8", "replace")
            if not document.error:
                readable += 1
                content.update(b"%d\0%s" % (len(encoded), encoded))
            yield Text(f"{file}#{document.row_number}", encoded.decode(), file, document.row_number, document.error)
        if not readable:
            raise HeirloomError(
                f"{source} holds no text that can be read in column {column!r}; name another with --text-column"
            )


@contextlib.contextmanager
def load_reference(
    sources: Sequence[str], column: str, settings: CurateSettings, folder: Path, *, hash_only: bool
) -> Iterator[ReferenceTexts]:
    """The texts of these sources; `folder` is used for sketches and is gone at the end.

    With `hash_only` only their digest is wanted, of a corpus that is decided.
    """
    content, stages = hashlib.sha256(), {*settings.filters}
    texts = (one for one in read_texts(sources, column, content) if not one.reason)
    # What a killed one has left.
    shutil.rmtree(folder, ignore_errors=True)
    try:
        if hash_only or not sources or not stages & (_WHOLE | _SKETCHED):
            for _ in texts:
                pass
            yield ReferenceTexts(_told(content))
        elif settings.minhash.max_shingle_document_frequency is not None or stages & _WHOLE:
            rows = [(one.id, one.text) for one in texts]
            ids, said = ([row[side] for row in rows] for side in (0, 1))
            yield ReferenceTexts(_told(content), RecordSet(ids, said, [0] * len(ids)))
        else:
            # DuckDB is not loaded where nothing is held against anything.
            from tasks.curation.dedup_index import StoredIndex, build_temporary_index

            files = build_temporary_index(folder, _tables(texts), settings.minhash)
            past = dict.fromkeys(_SKETCHED, StoredIndex(files=files))
            yield ReferenceTexts(_told(content), EMPTY_RECORDS, past, files)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _told(content: Any) -> str:  # noqa: ANN401  (a digest)
    return str(content.hexdigest()[:32])


def _tables(texts: Iterable[Text]) -> Iterator[pa.Table]:
    """Texts as records of no run, in tables of a bounded size."""
    ids, said, size = list[str](), list[str](), 0
    for one in texts:
        ids.append(one.id)
        said.append(one.text)
        size += len(one.text)
        if len(ids) == _PART_ROWS or size >= _PART_CHARACTERS:
            yield _table(ids, said)
            ids, said, size = [], [], 0
    if ids:
        yield _table(ids, said)


def _table(ids: list[str], texts: list[str]) -> pa.Table:
    # Nothing of a store is meant: no digest, so that nothing here was ever forgotten.
    rest = {"text_hash": [""] * len(ids), "source_generation": pa.array([0] * len(ids), pa.int32())}
    return pa.table({"id": ids, "text": texts, **rest})
