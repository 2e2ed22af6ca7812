"""Blocks of rows to human records, set down on disk: what a block becomes does not depend on who read it."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curation.chat import parse_messages, render_chat, to_messages
from curation.dedup.exact import exact_key
from curation.splitting import IngestSettings, is_held_out
from curation.text import has_word, normalize, split_passages
from storage.artifacts.schemas import MESSAGES, REJECTED_DOCUMENTS
from storage.index.partitioned_scratch import PartitionedScratch
from storage.readers.base import Block, Columns, Document
from storage.readers.documents import documents

BUCKETS, KEY_BUCKETS = 128, 16

RECORD_SCHEMA = pa.schema(
    [
        ("order", pa.uint64()),
        ("text_hash", pa.string()),
        ("is_heldout", pa.bool_()),
        ("text", pa.string()),
        ("source", pa.string()),
        ("row_number", pa.int64()),
        ("license", pa.string()),
        ("document_id", pa.string()),
        ("messages", MESSAGES),
    ]
)
"""A record before it is known whether it repeats another; `order` numbers records as they came in."""

KEY_SCHEMA = pa.schema([(name, pa.uint64()) for name in ("high", "low", "order", "identity")])
"""What exact duplicates are found by: a key of the normalized text; `identity` is the first half of the digest."""


@dataclass(frozen=True)
class ReadResult:
    """What became of some blocks; their records are on disk."""

    documents: Counter[str]
    """By their file."""
    unreadable: Counter[str]
    """Those without a text to look at, by their file."""
    reasons: Counter[str]
    content_hash: bytes


@dataclass(frozen=True)
class ScratchTables:
    """Where workers set down what they read."""

    records: PartitionedScratch
    keys: PartitionedScratch
    rejected: PartitionedScratch

    @classmethod
    def in_folder(cls, folder: Path) -> "ScratchTables":
        """The three of one ingest."""
        return cls(
            PartitionedScratch(folder / "found", RECORD_SCHEMA, BUCKETS),
            PartitionedScratch(folder / "keys", KEY_SCHEMA, KEY_BUCKETS),
            PartitionedScratch(folder / "aside", REJECTED_DOCUMENTS, 1),
        )


@dataclass
class _Rows:
    encoded: list[bytes] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)
    rest: list[tuple[str, int, str, str | None, Any]] = field(default_factory=list)
    """Source, place, license, document and turns of each record."""


def input_columns(settings: IngestSettings) -> Columns:
    """The columns that the settings name."""
    return Columns(
        settings.text_column,
        settings.response_column,
        settings.id_column,
        settings.license_column,
        settings.source_column,
        settings.max_document_bytes,
    )


def read_blocks(spills: ScratchTables, settings: IngestSettings, numbered: tuple[int, Sequence[Block]]) -> ReadResult:
    """Set down the records of some blocks and what is set aside of them; `numbered` by their order."""
    serial, blocks = numbered
    rows, aside = _Rows(), []
    counts, unread = Counter[str](), Counter[str]()
    for block in blocks:
        for document in documents(block, input_columns(settings)):
            counts[block.source] += 1
            reason = document.error or _take(document, settings, rows)
            if reason:
                unread[block.source] += bool(document.error)
                aside.append((document.source, document.row_number, reason, document.document_id))
    described = repr(([rest[:4] for rest in rows.rest], aside)).encode("utf-8", "surrogatepass")
    spills.records.write(serial, _found(rows, serial, settings), _first_bytes(rows.digests) >> 1)
    _write_keys(spills.keys, serial, rows.keys, rows.digests)
    spills.rejected.write(serial, _aside(aside), np.zeros(len(aside), np.int64))
    digest = sha256(described + b"".join(rows.digests)).digest()
    return ReadResult(counts, unread, Counter(reason for _, _, reason, _ in aside), digest)


def index_previous_keys(spill: PartitionedScratch, serial: int, texts: Sequence[str]) -> None:
    """Set down the keys of records that an earlier snapshot holds."""
    digests = [sha256(text.encode()).digest()[:16] for text in texts]
    _write_keys(spill, serial, [exact_key(normalize(text)) for text in texts], digests)


def _take(document: Document, settings: IngestSettings, rows: _Rows) -> str:
    """Put the records of a document to the rows; returns why there are none, or nothing."""
    text, _, _, _, _, response, _ = document
    turns: Any = None
    if response is not None:
        turns = to_messages(text, response) if isinstance(text, str) else "not a prompt"
    elif not isinstance(text, str):
        turns = parse_messages(text)
    if isinstance(turns, str):
        return turns
    if turns is not None:
        text = render_chat(turns)
    if not settings.passage_length_chars:
        return "" if _put(text, document, turns, rows) else "holds no word"
    # A passage of a conversation is no conversation.
    put = [_put(piece, document, None, rows) for piece in split_passages(text, *settings.passage_length_chars)]
    return "" if any(put) else "holds no passage of that length"


def _put(text: str, document: Document, turns: Any, rows: _Rows) -> bool:  # noqa: ANN401
    normalized = normalize(text)
    if not has_word(normalized):
        return False
    # A lone surrogate can be read from JSON, and cannot be stored as UTF-8.
    encoded = text.encode("utf-8", "replace")
    rows.encoded.append(encoded)
    rows.digests.append(sha256(encoded).digest()[:16])
    rows.keys.append(exact_key(normalized))
    rows.rest.append((*document[1:5], turns))
    return True


def _found(rows: _Rows, serial: int, settings: IngestSettings) -> pa.Table:
    digests = b"".join(rows.digests).hex()
    hexes = [digests[at : at + 32] for at in range(0, len(digests), 32)]
    sources, places, licenses, named, turns = zip(*rows.rest, strict=True) if rows.rest else ((), (), (), (), ())
    groups = sources if settings.split_by == "source" else hexes
    return pa.table(
        {
            "order": _orders(serial, len(hexes)),
            "text_hash": _strings([digest.encode() for digest in hexes]),
            "is_heldout": [is_held_out(group, settings.heldout_fraction) for group in groups],
            "text": _strings(rows.encoded),
            "source": sources,
            "row_number": places,
            "license": licenses,
            "document_id": named,
            "messages": pa.nulls(len(hexes), MESSAGES) if not any(turns) else pa.array(_clean(turns), MESSAGES),
        },
        schema=RECORD_SCHEMA,
    )


def _clean(conversations: Iterable[Any]) -> list[Any]:
    return [
        turns and [{key: said.encode("utf-8", "replace").decode() for key, said in turn.items()} for turn in turns]
        for turns in conversations
    ]


def _write_keys(spill: PartitionedScratch, serial: int, keys: list[bytes], digests: list[bytes]) -> None:
    halves = np.frombuffer(b"".join(keys), ">u8").reshape(-1, 2).astype(np.uint64)
    identities = np.frombuffer(b"".join(digests), ">u8")[::2].astype(np.uint64)
    columns = [halves[:, 0].copy(), halves[:, 1].copy(), _orders(serial, len(keys)), identities]
    spill.write(serial, pa.table(columns, schema=KEY_SCHEMA), _first_bytes(keys) >> 4)


def _aside(rows: list[tuple[str, int, str, str | None]]) -> pa.Table:
    told = [
        {"source": source, "row_number": place, "filter": "read", "reason": reason, "document_id": document}
        for source, place, reason, document in rows
    ]
    return pa.Table.from_pylist(told, schema=REJECTED_DOCUMENTS)


def _first_bytes(digests: list[bytes]) -> Any:  # noqa: ANN401
    return np.frombuffer(b"".join(digests), np.uint8)[::16]


def _orders(serial: int, count: int) -> Any:  # noqa: ANN401
    return np.arange(count, dtype=np.uint64) + np.uint64(serial << 32)


def _strings(encoded: list[bytes]) -> pa.Array:
    """An array of UTF-8 without decoding it again."""
    ends = np.zeros(len(encoded) + 1, np.int32)
    np.cumsum([len(text) for text in encoded], out=ends[1:])
    return pa.StringArray.from_buffers(len(encoded), pa.py_buffer(ends), pa.py_buffer(b"".join(encoded)))
