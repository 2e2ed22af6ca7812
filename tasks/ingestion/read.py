"""Blocks of rows to human records, set down on disk: what a block becomes does not depend on who read it."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curation.chat import as_turns, read_turns, render
from curation.dedup.exact import exact_key
from curation.splitting import IngestSettings, is_held_out
from curation.text import holds_word, normalise, passages
from storage.artifacts.schemas import MESSAGES, SET_ASIDE
from storage.index.partitioned_scratch import Spill
from storage.readers.base import Block, Columns, Document
from storage.readers.documents import documents

BUCKETS, KEY_BUCKETS = 128, 16

FOUND = pa.schema(
    [
        ("order", pa.uint64()),
        ("digest", pa.string()),
        ("heldout", pa.bool_()),
        ("text", pa.string()),
        ("source", pa.string()),
        ("place", pa.int64()),
        ("licence", pa.string()),
        ("document", pa.string()),
        ("messages", MESSAGES),
    ]
)
"""A record before it is known whether it repeats another; `order` numbers records as they came in."""

KEYS = pa.schema([(name, pa.uint64()) for name in ("high", "low", "order", "identity")])
"""What exact duplicates are found by: a key of the normalised text; `identity` is the first half of the digest."""


@dataclass(frozen=True)
class Harvest:
    """What became of some blocks; their records are on disk."""

    documents: Counter[str]
    """By their file."""
    unread: Counter[str]
    """Those without a text to look at, by their file."""
    reasons: Counter[str]
    digest: bytes


@dataclass(frozen=True)
class Spills:
    """Where workers set down what they read."""

    found: Spill
    keys: Spill
    aside: Spill

    @classmethod
    def under(cls, folder: Path) -> "Spills":
        """The three of one ingest."""
        return cls(
            Spill(folder / "found", FOUND, BUCKETS),
            Spill(folder / "keys", KEYS, KEY_BUCKETS),
            Spill(folder / "aside", SET_ASIDE, 1),
        )


@dataclass
class _Rows:
    encoded: list[bytes] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)
    rest: list[tuple[str, int, str, str | None, Any]] = field(default_factory=list)
    """Source, place, licence, document and turns of each record."""


def columns_of(settings: IngestSettings) -> Columns:
    """The columns that the settings name."""
    return Columns(
        settings.column,
        settings.response_column,
        settings.id_column,
        settings.licence_column,
        settings.source_column,
        settings.longest_document_bytes,
    )


def read_blocks(spills: Spills, settings: IngestSettings, numbered: tuple[int, Sequence[Block]]) -> Harvest:
    """Set down the records of some blocks and what is set aside of them; `numbered` by their order."""
    serial, blocks = numbered
    rows, aside = _Rows(), []
    counts, unread = Counter[str](), Counter[str]()
    for block in blocks:
        for document in documents(block, columns_of(settings)):
            counts[block.source] += 1
            reason = document.reason or _take(document, settings, rows)
            if reason:
                unread[block.source] += bool(document.reason)
                aside.append((document.source, document.place, reason, document.document))
    described = repr(([rest[:4] for rest in rows.rest], aside)).encode("utf-8", "surrogatepass")
    spills.found.write(serial, _found(rows, serial, settings), _first_bytes(rows.digests) >> 1)
    _write_keys(spills.keys, serial, rows.keys, rows.digests)
    spills.aside.write(serial, _aside(aside), np.zeros(len(aside), np.int64))
    digest = sha256(described + b"".join(rows.digests)).digest()
    return Harvest(counts, unread, Counter(reason for _, _, reason, _ in aside), digest)


def keep_former_keys(spill: Spill, serial: int, texts: Sequence[str]) -> None:
    """Set down the keys of records that an earlier snapshot holds."""
    digests = [sha256(text.encode()).digest()[:16] for text in texts]
    _write_keys(spill, serial, [exact_key(normalise(text)) for text in texts], digests)


def _take(document: Document, settings: IngestSettings, rows: _Rows) -> str:
    """Put the records of a document to the rows; returns why there are none, or nothing."""
    text, _, _, _, _, response, _ = document
    turns: Any = None
    if response is not None:
        turns = as_turns(text, response) if isinstance(text, str) else "not a prompt"
    elif not isinstance(text, str):
        turns = read_turns(text)
    if isinstance(turns, str):
        return turns
    if turns is not None:
        text = render(turns)
    if not settings.passage_characters:
        return "" if _put(text, document, turns, rows) else "holds no word"
    # A passage of a conversation is no conversation.
    put = [_put(piece, document, None, rows) for piece in passages(text, *settings.passage_characters)]
    return "" if any(put) else "holds no passage of that length"


def _put(text: str, document: Document, turns: Any, rows: _Rows) -> bool:  # noqa: ANN401
    normalised = normalise(text)
    if not holds_word(normalised):
        return False
    # A lone surrogate can be read from JSON, and cannot be stored as UTF-8.
    encoded = text.encode("utf-8", "replace")
    rows.encoded.append(encoded)
    rows.digests.append(sha256(encoded).digest()[:16])
    rows.keys.append(exact_key(normalised))
    rows.rest.append((*document[1:5], turns))
    return True


def _found(rows: _Rows, serial: int, settings: IngestSettings) -> pa.Table:
    digests = b"".join(rows.digests).hex()
    hexes = [digests[at : at + 32] for at in range(0, len(digests), 32)]
    sources, places, licences, named, turns = zip(*rows.rest, strict=True) if rows.rest else ((), (), (), (), ())
    groups = sources if settings.split_by == "source" else hexes
    return pa.table(
        {
            "order": _orders(serial, len(hexes)),
            "digest": _strings([digest.encode() for digest in hexes]),
            "heldout": [is_held_out(group, settings.heldout_fraction) for group in groups],
            "text": _strings(rows.encoded),
            "source": sources,
            "place": places,
            "licence": licences,
            "document": named,
            "messages": pa.nulls(len(hexes), MESSAGES) if not any(turns) else pa.array(_clean(turns), MESSAGES),
        },
        schema=FOUND,
    )


def _clean(conversations: Iterable[Any]) -> list[Any]:
    return [
        turns and [{key: said.encode("utf-8", "replace").decode() for key, said in turn.items()} for turn in turns]
        for turns in conversations
    ]


def _write_keys(spill: Spill, serial: int, keys: list[bytes], digests: list[bytes]) -> None:
    halves = np.frombuffer(b"".join(keys), ">u8").reshape(-1, 2).astype(np.uint64)
    identities = np.frombuffer(b"".join(digests), ">u8")[::2].astype(np.uint64)
    columns = [halves[:, 0].copy(), halves[:, 1].copy(), _orders(serial, len(keys)), identities]
    spill.write(serial, pa.table(columns, schema=KEYS), _first_bytes(keys) >> 4)


def _aside(rows: list[tuple[str, int, str, str | None]]) -> pa.Table:
    told = [
        {"source": source, "place": place, "stage": "read", "reason": reason, "document": document}
        for source, place, reason, document in rows
    ]
    return pa.Table.from_pylist(told, schema=SET_ASIDE)


def _first_bytes(digests: list[bytes]) -> Any:  # noqa: ANN401
    return np.frombuffer(b"".join(digests), np.uint8)[::16]


def _orders(serial: int, count: int) -> Any:  # noqa: ANN401
    return np.arange(count, dtype=np.uint64) + np.uint64(serial << 32)


def _strings(encoded: list[bytes]) -> pa.Array:
    """An array of UTF-8 without decoding it again."""
    ends = np.zeros(len(encoded) + 1, np.int32)
    np.cumsum([len(text) for text in encoded], out=ends[1:])
    return pa.StringArray.from_buffers(len(encoded), pa.py_buffer(ends), pa.py_buffer(b"".join(encoded)))
