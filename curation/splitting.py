"""Ingest settings, and the hash-based rule that decides which human records are held out."""

import hashlib
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator

from curation.dedup.minhash import MinHashSettings
from curation.filters.decontamination import OverlapSettings
from heirloom.errors import HeirloomError
from heirloom.settings import Settings


class DedupSettings(Settings):
    """`dedup`: which documents count as duplicates during ingest."""

    method: Literal["exact", "near"] = Field(
        "near",
        description="Duplicates to reject. `exact`: identical text, apart from Unicode form and white space at ends of "
        "lines. `near`: also MinHash near-duplicates, which keeps all new text in memory",
    )
    minhash: MinHashSettings = Field(
        MinHashSettings(), description="Near-duplicate search, used by `dedup.method = 'near'`"
    )


class ReadSettings(Settings):
    """How rows of CSV and TSV are read, and how long a document may be."""

    max_document_bytes: int = Field(
        16 << 20, ge=1024, le=1 << 30, description="Maximum size of a document or a line; longer ones are rejected"
    )
    csv_delimiter: str | None = Field(
        None, min_length=1, max_length=1, description="Character between cells of CSV and TSV; default: comma or tab"
    )
    csv_quote: str | None = Field(
        None,
        max_length=1,
        description='Character around cells; empty: no quoting. Default: `"`, which in `.tsv` files stays part of the '
        "text unless the whole record, or the header, is quoted as a writer of CSV does",
    )
    csv_escape: str | None = Field(
        None,
        min_length=1,
        max_length=1,
        description="Character before a quote within a cell; default: quotes are doubled",
    )

    @field_validator("csv_delimiter", mode="before")
    @classmethod
    def _unescape_tab(cls, value: object) -> object:
        return "\t" if value == "\\t" else value

    def changed_read_settings(self) -> dict[str, object]:
        """Return those of these settings that differ from their defaults."""
        fields = ReadSettings.model_fields
        return {name: getattr(self, name) for name in fields if getattr(self, name) != fields[name].get_default()}


_OPTIONAL_SETTINGS = ("input_column", "csv_delimiter", "csv_quote", "csv_escape", "check_column")
_NEWER_SWITCHES = ("think_tags",)
"""Settings that identities of older snapshots do not have; they are left out where they are off."""


def _check_passage_length(length: tuple[int, int]) -> tuple[int, int]:
    shortest, longest = length
    if not 1 <= shortest <= longest:
        raise HeirloomError(
            f"`passage_length_chars` is [{shortest}, {longest}]. Use a minimum of at least 1 and a maximum that is "
            "not less."
        )
    return length


PassageLength = Annotated[tuple[int, int], AfterValidator(_check_passage_length)]
"""Minimum and maximum length of a passage in characters."""


class IngestSettings(ReadSettings):
    """How documents become the human training and held-out records."""

    text_column: str = Field(
        "text",
        description="Column with the text or the conversation, in sources with columns; where there is none of the "
        "name `text`, columns of known shapes of conversations are read",
    )
    response_column: str | None = Field(
        None, description="Column with the response; `text_column` then holds the prompt"
    )
    input_column: str | None = Field(
        None, description="Column to append to the prompt after an empty line, such as Alpaca's `input`"
    )
    id_column: str | None = Field(None, description="Column with the document's own id, stored as `document_id`")
    license_column: str | None = Field(None, description="Column with the license of each document")
    source_column: str | None = Field(
        None, description="Column with the source of each document; default: the file's name"
    )
    check_column: str | None = Field(
        None, description="Column with the check of an answer to the text, as JSON (docs/verification.md)"
    )
    think_tags: bool = Field(
        False,
        description="Read `<think>...</think>` at the beginning of a response as its reasoning; default: as part of "
        "its text",
    )
    heldout_fraction: float = Field(0.15, gt=0, lt=1, description="Fraction of the groups that is held out")
    split_by: Literal["source", "record"] = Field(
        "record", description="Unit that is never split between training and held-out set: `record` or `source` (file)"
    )
    passage_length_chars: PassageLength | None = Field(
        None,
        description="Split documents into passages of this minimum and maximum length in characters, at ends of "
        "paragraphs, sentences or lines; default: a document is one record",
    )
    max_train_records: int | None = Field(
        None, ge=1, description="Maximum number of training records; the rest is rejected"
    )
    max_heldout_records: int | None = Field(
        None, ge=1, description="Maximum number of held-out records; the rest is rejected"
    )
    dedup: DedupSettings = Field(DedupSettings(), description="Deduplication of documents")

    def identity(self) -> dict[str, object]:
        """Return the settings that decide which snapshot an ingest yields, without those that are not set."""
        unset = {name for name in _OPTIONAL_SETTINGS if getattr(self, name) is None}
        unset |= {name for name in _NEWER_SWITCHES if not getattr(self, name)}
        return self.model_dump(mode="json", exclude=unset)


class EvalSetSettings(ReadSettings):
    """How documents become an eval set, and which overlap with it counts as exposure."""

    text_column: str = Field("text", description="Column with the text, in sources with columns")
    passage_length_chars: PassageLength | None = Field(
        None,
        description="Split documents into passages of this minimum and maximum length in characters, at ends of "
        "paragraphs, sentences or lines; default: a document is one record",
    )
    overlap: OverlapSettings = Field(OverlapSettings(), description="Overlap with the eval set that counts as exposure")

    def identity(self) -> dict[str, object]:
        """Return the settings that decide which records an eval set has, without those of reading that are defaults."""
        exclude = {"overlap", *ReadSettings.model_fields}
        return {**self.model_dump(mode="json", exclude=exclude), **self.changed_read_settings()}


def is_held_out(group: str, fraction: float) -> bool:
    """Return whether a group belongs to the held-out set.

    The decision depends only on the SHA-256 of the group, so it is the same in every run and store, and a larger
    fraction holds out a superset.

    Args:
        group: Text hash of a record, or the source of a document.
        fraction: Fraction of the groups to hold out.
    """
    return int.from_bytes(hashlib.sha256(group.encode("utf-8", "surrogatepass")).digest()[:8]) < fraction * 2**64
