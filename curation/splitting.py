"""Which human records are held out, for ever: decided by a digest, so a document always lands on the same side."""

import hashlib
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from curation.dedup.minhash import MinHashSettings
from curation.filters.decontamination import OverlapSettings


class IngestSettings(BaseModel):
    """How documents become the reserve and the held-out set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text_column: str = Field(
        "text", description="column that holds the text, or a conversation, where a source has columns"
    )
    response_column: str | None = Field(None, description="column that holds the response; the text is then its prompt")
    id_column: str | None = Field(None, description="column that holds a document's own id, kept as `document_id`")
    license_column: str | None = Field(None, description="column that holds the license of each document")
    source_column: str | None = Field(
        None, description="column that says where each document is from, instead of its file"
    )
    max_document_bytes: int = Field(
        16 << 20, ge=1024, le=1 << 30, description="a document, or a line, above it is set aside"
    )
    heldout_fraction: float = Field(0.15, gt=0, lt=1, description="share of the groups that is held out")
    split_by: Literal["source", "record"] = Field(
        "record", description="what is never on both sides: a file, or a record"
    )
    passage_length_chars: tuple[int, int] | None = Field(
        None, description="cut documents into passages of so many characters, shortest and longest"
    )
    max_train_records: int | None = Field(None, ge=1, description="most records in the reserve; the rest is set aside")
    max_heldout_records: int | None = Field(None, ge=1, description="most held-out records; the rest is set aside")
    repeats: Literal["exact", "near"] = Field(
        "near",
        description="what is set aside as repeating: the same text, or nearly the same, for which all new text is held in memory",
    )
    near_duplicates: MinHashSettings = Field(MinHashSettings(), description="what counts as saying nearly the same")


class EvalSetSettings(BaseModel):
    """How documents become an evaluation set, and what counts as having met it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text_column: str = Field("text", description="column that holds the text, where a source has columns")
    passage_length_chars: tuple[int, int] | None = Field(
        None, description="cut documents into passages of so many characters, shortest and longest"
    )
    overlap: OverlapSettings = Field(OverlapSettings(), description="what counts as having met the set")


def is_held_out(group: str, fraction: float) -> bool:
    """Whether a group is held out; the same answer for the same group in every run and store."""
    return int.from_bytes(hashlib.sha256(group.encode("utf-8", "surrogatepass")).digest()[:8]) < fraction * 2**64
