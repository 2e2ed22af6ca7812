"""Read the texts of any source by file and row, and load the reference texts that a corpus is compared with.

Reference texts are not held in memory where filters only search for duplicates: they are sketched one part at a time
into temporary files, and read again where they are close to a new text, as earlier generations of a run are
(`tasks/curation/dedup_index.py`).
"""

import contextlib
import hashlib
import shutil
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.decisions import EMPTY_RECORDS, RecordSet
from curation.dedup.reference import ReferenceIndex
from curation.filters.base import Need
from curation.pipeline import CurateSettings
from heirloom.chat import to_json
from storage.readers.base import Columns
from storage.readers.discovery import find_files
from storage.readers.documents import no_text_error, read_documents

_TEXT_NEEDS: frozenset[Need] = frozenset({"human_train", "protected", "survivors", "references"})
"""Needs that only the texts themselves meet."""
_INDEX_NEEDS: frozenset[Need] = frozenset({"human_index", "survivor_index"})
"""Needs that sketches meet."""
_PART_ROWS, _PART_CHARACTERS = 65_536, 1 << 26


class Digest(Protocol):
    """A hash of `hashlib`."""

    def update(self, data: bytes, /) -> None: ...  # noqa: D102

    def hexdigest(self) -> str: ...  # noqa: D102


class Text(NamedTuple):
    """One text of a source; with a `reason` it could not be read."""

    id: str
    text: str
    file: str
    row_number: int
    reason: str
    messages: str | None = None
    """Messages of a conversation as JSON, of which `text` is the text."""
    tools: str | None = None


@dataclass(frozen=True, kw_only=True)
class ReferenceTexts:
    """Texts that a corpus is compared with: the texts themselves, or an index of their sketches."""

    content_hash: str
    records: RecordSet = EMPTY_RECORDS
    index: ReferenceIndex | None = None
    files: Sequence[Path] = ()
    """Files of the index, which hold the texts too."""

    def lookup(self, ids: Collection[str]) -> dict[str, str]:
        """The texts of those ids that are reference texts, by id."""
        wanted = pa.array(sorted(ids), pa.string())
        rows = self.records.take(np.flatnonzero(pc.is_in(self.records.ids, value_set=wanted.cast(pa.large_string()))))
        texts = dict(zip(rows.ids.to_pylist(), rows.text_list, strict=True))
        if self.files:
            from storage.index.sketch_index import read_texts_by_id

            for file in self.files:
                texts |= read_texts_by_id(file, wanted)
        return texts


def read_texts(sources: Sequence[str], columns: Columns, content: Digest) -> Iterator[Text]:
    """Read every text of some sources, in order, and update the digest `content` with those that are readable.

    Raises:
        HeirloomError: a source cannot be read, or has no text.
    """
    for source in sources:
        num_readable = 0
        reasons, unread_columns = Counter[str](), Counter[str]()
        paths = source_paths(source)
        for document in read_documents(source, columns, unread_columns):
            path = paths.get(document.source, f"{source}/{document.source}")
            # JSON can contain a lone surrogate, which cannot be stored as UTF-8.
            encoded = document.content.encode("utf-8", "replace")
            if document.error:
                reasons[document.error] += 1
            else:
                num_readable += 1
                content.update(b"%d\0%s" % (len(encoded), encoded))
            conversation = document.conversation
            if conversation:
                # Ids, names and tools are not part of the text.
                content.update(repr(conversation).encode("utf-8", "replace"))
            yield Text(
                id=f"{path}#{document.row_number}",
                text=encoded.decode(),
                file=path,
                row_number=document.row_number,
                reason=document.error,
                messages=to_json(conversation.messages) if conversation else None,
                tools=to_json(conversation.tools) if conversation else None,
            )
        if not num_readable:
            raise no_text_error(source, reasons, columns.text, sorted(unread_columns))


def source_paths(source: str) -> dict[str, str]:
    """Return the path of each file of a source by its name within the source."""
    return {file.name: str(file.path) for file in find_files(source)}


@contextlib.contextmanager
def load_reference(
    sources: Sequence[str], columns: Columns, settings: CurateSettings, folder: Path, *, hash_only: bool
) -> Iterator[ReferenceTexts]:
    """Load the texts of these sources in the form that the filters need.

    Args:
        sources: files, folders, patterns or datasets.
        columns: the column that holds the text, and the characters of CSV.
        settings: the filters, and how texts are sketched.
        folder: for temporary files of sketches; it is deleted at the end.
        hash_only: only compute the digest, for a corpus that is finished.
    """
    content = hashlib.sha256()
    needs = {need for each in settings.build_filters() for need in each.needs}
    texts = (text for text in read_texts(sources, columns, content) if not text.reason)
    # An interrupted command may have left its files.
    shutil.rmtree(folder, ignore_errors=True)
    try:
        if hash_only or not sources or not needs & (_TEXT_NEEDS | _INDEX_NEEDS):
            for _ in texts:
                pass
            yield ReferenceTexts(content_hash=hex_digest(content))
        elif settings.minhash.max_shingle_document_frequency is not None or needs & _TEXT_NEEDS:
            rows = [(text.id, text.text) for text in texts]
            records = RecordSet([row[0] for row in rows], [row[1] for row in rows], [0] * len(rows))
            yield ReferenceTexts(content_hash=hex_digest(content), records=records)
        else:
            # Imported here, so that DuckDB is not loaded without reference texts.
            from tasks.curation.dedup_index import StoredIndex, build_temporary_index

            files = build_temporary_index(folder, _tables(texts), settings.minhash)
            yield ReferenceTexts(content_hash=hex_digest(content), index=StoredIndex(files=files), files=files)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def hex_digest(content: Digest) -> str:
    """The first 128 bits of a digest, as hexadecimal digits."""
    return content.hexdigest()[:32]


def _tables(texts: Iterable[Text]) -> Iterator[pa.Table]:
    """Texts as tables of a bounded size, with the columns that an index has."""
    ids: list[str] = []
    contents: list[str] = []
    size = 0
    for text in texts:
        ids.append(text.id)
        contents.append(text.text)
        size += len(text.text)
        if len(ids) == _PART_ROWS or size >= _PART_CHARACTERS:
            yield _table(ids, contents)
            ids, contents, size = [], [], 0
    if ids:
        yield _table(ids, contents)


def _table(ids: list[str], texts: list[str]) -> pa.Table:
    # Without a hash: the texts are not in a store, so no tombstone can apply to them.
    return pa.table(
        {
            "id": ids,
            "text": texts,
            "text_hash": [""] * len(ids),
            "source_generation": pa.array([0] * len(ids), pa.int32()),
        }
    )
