"""Read blocks of rows into human records, and write them to scratch tables on disk.

Runs in worker processes. The output depends on the block alone, not on the process that reads it.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curation.dedup.exact import exact_key
from curation.passages import split_passages
from curation.splitting import IngestSettings, ReadSettings, is_held_out
from curation.text import has_word, normalize
from curation.verification.checks import encode_check, parse_check
from heirloom.chat import Conversation, parse_conversation, render_chat, to_json, to_messages
from heirloom.errors import HeirloomError
from storage.artifacts.schemas import CONVERSATION, REJECTED_DOCUMENTS
from storage.index.partitioned_scratch import PartitionedScratch
from storage.readers.base import Block, Columns, Document
from storage.readers.documents import documents

NUM_RECORD_PARTITIONS, NUM_KEY_PARTITIONS = 128, 16
NO_WORDS, PASSAGE_TOO_SHORT = "no words", "shorter than a passage, or such an end of a document"
"""Reasons for rejecting a document or a part of one."""

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
        *CONVERSATION,
        ("checks", pa.string()),
    ]
)
"""A record before deduplication. `order` numbers records in reading order: batch number << 32, plus the position."""

KEY_SCHEMA = pa.schema([(name, pa.uint64()) for name in ("high", "low", "order", "text_hash_prefix")])
"""Keys to find exact duplicates by.

`high` and `low` are the halves of the hash of the normalized text. `text_hash_prefix` is the first half of `text_hash`,
which the record id is made of.
"""

Uint64s: TypeAlias = NDArray[np.uint64]

_HASH_BYTES = 16


class HumanText(NamedTuple):
    """One text of a document, whole or a passage. A NamedTuple: it is the cheapest type, and millions are made."""

    document: Document
    encoded: bytes
    """Text as UTF-8."""
    hash: bytes
    exact_key: bytes
    conversation: Conversation | None
    check: str | None


class HumanContent(NamedTuple):
    """What a record consists of: its text, the conversation that the text renders, and the check of an answer to it."""

    text: str
    conversation: Conversation | None = None
    check: str | None = None


class Rejection(NamedTuple):
    """A document, or a part of one, that yields no record, and the reason."""

    source: str
    row_number: int
    reason: str
    document_id: str | None


@dataclass(frozen=True, kw_only=True)
class BlockBatch:
    """Blocks that one worker reads together, numbered in reading order."""

    number: int
    blocks: Sequence[Block]


@dataclass(frozen=True, kw_only=True)
class ReadResult:
    """Counts of the documents in one batch; their records are in the scratch tables."""

    documents: Counter[str]
    """Documents by file."""
    unreadable: Counter[str]
    """Documents whose text could not be read, by file."""
    unread_reasons: Counter[tuple[str, str]]
    """Documents whose text could not be read, by file and reason."""
    unread_columns: Counter[str]
    """Rows by column that was not read, and messages by field that was not: `messages[].weight`."""
    shapes: Counter[str]
    """Documents by what their conversations were taken for."""
    reasons: Counter[str]
    """Rejected documents by reason."""
    content_hash: bytes
    """Hash of everything that was read; independent of the batch number."""


@dataclass(frozen=True, kw_only=True)
class ScratchTables:
    """Tables on disk that workers write while reading."""

    records: PartitionedScratch
    """`RECORD_SCHEMA`, partitioned by text hash."""
    keys: PartitionedScratch
    """`KEY_SCHEMA`, partitioned by exact key, so that equal texts are in one partition."""
    rejected: PartitionedScratch
    """`REJECTED_DOCUMENTS`, one partition."""

    @classmethod
    def in_folder(cls, folder: Path) -> "ScratchTables":
        """Create the tables of one ingest below `folder`."""
        return cls(
            records=PartitionedScratch(folder / "records", RECORD_SCHEMA, NUM_RECORD_PARTITIONS),
            keys=PartitionedScratch(folder / "keys", KEY_SCHEMA, NUM_KEY_PARTITIONS),
            rejected=PartitionedScratch(folder / "rejected", REJECTED_DOCUMENTS, 1),
        )


def text_columns(text_column: str, settings: ReadSettings) -> Columns:
    """Return the columns of a source of texts."""
    return Columns(
        text=text_column,
        max_length=settings.max_document_bytes,
        delimiter=settings.csv_delimiter,
        quote=settings.csv_quote,
        escape=settings.csv_escape,
    )


def input_columns(settings: IngestSettings) -> Columns:
    """Return the source columns that the settings name."""
    return replace(
        text_columns(settings.text_column, settings),
        response=settings.response_column,
        document_id=settings.id_column,
        license=settings.license_column,
        source=settings.source_column,
        prompt_input=settings.input_column,
        checks=settings.check_column,
    )


def read_blocks(scratch: ScratchTables, settings: IngestSettings, batch: BlockBatch) -> ReadResult:
    """Write the records, keys and rejected documents of a batch to the scratch tables."""
    texts: list[HumanText] = []
    rejections: list[Rejection] = []
    num_documents, num_unreadable = Counter[str](), Counter[str]()
    unread_reasons, unread_columns, shapes = Counter[tuple[str, str]](), Counter[str](), Counter[str]()
    columns = input_columns(settings)
    for block in batch.blocks:
        for document in documents(block, columns, unread_columns):
            num_documents[block.source] += 1
            if document.shape:
                shapes[document.shape] += 1
            if document.error:
                num_unreadable[block.source] += 1
                unread_reasons[block.source, document.error] += 1
                reasons = [document.error]
            else:
                reasons = _append_texts(document, settings, texts, unread_columns)
            rejections += [
                Rejection(document.source, document.row_number, reason, document.document_id) for reason in reasons
            ]
    hashes = [text.hash for text in texts]
    keys = [text.exact_key for text in texts]
    scratch.records.write(batch.number, _record_table(texts, batch.number, settings), _first_bytes(hashes) >> 1)
    _write_keys(scratch.keys, batch.number, keys, hashes)
    scratch.rejected.write(batch.number, _rejected_table(rejections), np.zeros(len(rejections), np.int64))
    return ReadResult(
        documents=num_documents,
        unreadable=num_unreadable,
        unread_reasons=unread_reasons,
        unread_columns=unread_columns,
        shapes=shapes,
        reasons=Counter(rejection.reason for rejection in rejections),
        content_hash=_content_hash(texts, rejections),
    )


def index_previous_keys(keys_table: PartitionedScratch, batch_number: int, texts: Sequence[str]) -> None:
    """Write the exact keys of records of the previous snapshot."""
    hashes = [_hash(text.encode()) for text in texts]
    _write_keys(keys_table, batch_number, [exact_key(normalize(text)) for text in texts], hashes)


def _append_texts(
    document: Document, settings: IngestSettings, texts: list[HumanText], unread: Counter[str]
) -> list[str]:
    """Append the texts of a document; return a reason for all of it, or each part of it, that yields none.

    Fields of messages that are not stored are counted in `unread`.
    """
    conversation = _conversation(document, settings)
    if isinstance(conversation, str):
        return [conversation]
    try:
        check = _check(document.checks)
    except HeirloomError as error:
        return [str(error)]
    if conversation:
        unread.update(f"messages[].{name}" for name in conversation.unread_fields)
    whole_text = document.content if conversation is None else render_chat(conversation.messages)
    if settings.passage_length_chars is None:
        return [] if _append_text(HumanContent(whole_text, conversation, check), document, texts) else [NO_WORDS]
    passages = split_passages(whole_text, *settings.passage_length_chars)
    # A passage of a conversation is not a conversation, so it has no messages, and a passage of a problem no check.
    wordless = [text for text in passages.texts if not _append_text(HumanContent(text), document, texts)]
    if not passages.texts and not passages.rest:
        return [NO_WORDS]
    return [NO_WORDS] * len(wordless) + [PASSAGE_TOO_SHORT] * bool(passages.rest)


def _conversation(document: Document, settings: IngestSettings) -> Conversation | str | None:
    """Return the conversation of a document, the reason if it is malformed, or None for a text."""
    content = document.content
    if document.response is not None:
        if not isinstance(content, str):
            return "prompt is not text"
        content = to_messages(content, document.response)
    if isinstance(content, str):
        return None
    return parse_conversation(content, document.tools, think_tags=settings.think_tags)


def _check(given: object) -> str | None:
    """Return the check of a document as it is stored; raises HeirloomError if it is invalid."""
    if given is None:
        return None
    if not isinstance(given, str | dict):
        raise HeirloomError("Invalid check: neither JSON nor an object")
    return encode_check(parse_check(given))


def _append_text(content: HumanContent, document: Document, texts: list[HumanText]) -> bool:
    if not has_word(content.text):
        return False
    # JSON can contain a lone surrogate, which UTF-8 cannot encode.
    encoded = content.text.encode("utf-8", "replace")
    texts.append(
        HumanText(
            document, encoded, _hash(encoded), exact_key(normalize(content.text)), content.conversation, content.check
        )
    )
    return True


def _hash(encoded: bytes) -> bytes:
    return sha256(encoded).digest()[:_HASH_BYTES]


def _content_hash(texts: Sequence[HumanText], rejections: Sequence[Rejection]) -> bytes:
    origins = [
        (text.document.source, text.document.row_number, text.document.license, text.document.document_id)
        for text in texts
    ]
    described = repr((origins, [tuple(rejection) for rejection in rejections])).encode("utf-8", "surrogatepass")
    # Ids, names and tools are not part of the text.
    checks = [text.check for text in texts if text.check]
    conversations = [text.conversation for text in texts if text.conversation]
    columns = [(to_json(each.messages), to_json(each.tools)) for each in conversations]
    return sha256(
        described + b"".join(text.hash for text in texts) + repr(columns).encode() + "".join(checks).encode()
    ).digest()


def _record_table(texts: Sequence[HumanText], batch_number: int, settings: IngestSettings) -> pa.Table:
    hashes = [text.hash.hex() for text in texts]
    sources = [text.document.source for text in texts]
    groups = sources if settings.split_by == "source" else hashes
    return pa.table(
        {
            "order": _orders(batch_number, len(texts)),
            "text_hash": _string_array([text_hash.encode() for text_hash in hashes]),
            "is_heldout": [is_held_out(group, settings.heldout_fraction) for group in groups],
            "text": _string_array([text.encoded for text in texts]),
            "source": sources,
            "row_number": [text.document.row_number for text in texts],
            "license": [text.document.license for text in texts],
            "document_id": [text.document.document_id for text in texts],
            "messages": [text.conversation and to_json(text.conversation.messages) for text in texts],
            "tools": [text.conversation and to_json(text.conversation.tools) for text in texts],
            "checks": [text.check for text in texts],
        },
        schema=RECORD_SCHEMA,
    )


def _write_keys(
    keys_table: PartitionedScratch, batch_number: int, keys: Sequence[bytes], hashes: Sequence[bytes]
) -> None:
    key_halves = np.frombuffer(b"".join(keys), ">u8").reshape(-1, 2).astype(np.uint64)
    hash_halves = np.frombuffer(b"".join(hashes), ">u8").reshape(-1, 2).astype(np.uint64)
    table = pa.table(
        {
            "high": key_halves[:, 0].copy(),
            "low": key_halves[:, 1].copy(),
            "order": _orders(batch_number, len(keys)),
            "text_hash_prefix": hash_halves[:, 0].copy(),
        },
        schema=KEY_SCHEMA,
    )
    keys_table.write(batch_number, table, _first_bytes(keys) >> 4)


def _rejected_table(rejections: Sequence[Rejection]) -> pa.Table:
    rows = [{**rejection._asdict(), "filter": "read"} for rejection in rejections]
    return pa.Table.from_pylist(rows, schema=REJECTED_DOCUMENTS)


def _first_bytes(hashes: Sequence[bytes]) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(hashes), np.uint8)[::_HASH_BYTES]


def _orders(batch_number: int, count: int) -> Uint64s:
    return np.arange(count, dtype=np.uint64) + np.uint64(batch_number << 32)


def _string_array(encoded: Sequence[bytes]) -> pa.Array:
    """Build a string array from UTF-8 bytes without decoding them."""
    offsets = np.zeros(len(encoded) + 1, np.int32)
    np.cumsum([len(text) for text in encoded], out=offsets[1:])
    return pa.StringArray.from_buffers(len(encoded), pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded)))
