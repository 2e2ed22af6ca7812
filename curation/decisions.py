"""Records, search results and filter decisions, all as columns.

A filter gets a `RecordSet` and returns a `FilterResult`: Arrow columns with one row per record, in the same order.
`decision_table` joins the two into the table of decisions that is stored.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Protocol, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from heirloom.errors import HeirloomError

Column: TypeAlias = Sequence[object] | NDArray[np.generic] | pa.Array | pa.ChunkedArray
"""Values of one column, one per record."""


@dataclass(frozen=True)
class RecordSet:
    """Some records as Arrow columns of one length. Each column may be given as any sequence.

    Texts have 64-bit offsets, so that a column may exceed 2 GiB. A lone surrogate cannot be stored and becomes `?`.
    """

    ids: pa.Array
    texts: pa.Array
    generations: pa.Array
    """Generation in which each record was written; 0 is human."""

    def __post_init__(self) -> None:
        for name, data_type in (("ids", pa.large_string()), ("texts", pa.large_string()), ("generations", pa.int32())):
            object.__setattr__(self, name, _column(getattr(self, name), data_type))

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def from_table(cls, table: pa.Table) -> "RecordSet":
        """The records of a table with the columns `id`, `text` and `source_generation`."""
        return cls(table["id"], table["text"], table["source_generation"])

    @cached_property
    def text_list(self) -> list[str]:
        """The texts as Python strings, for functions that split or normalize them."""
        texts: list[str] = self.texts.to_pylist()
        return texts

    def take(self, rows: NDArray[np.int64]) -> "RecordSet":
        """The records at these rows, in this order."""
        return RecordSet(self.ids.take(rows), self.texts.take(rows), self.generations.take(rows))

    def exclude(self, ids: Collection[str]) -> "RecordSet":
        """All records but those with these ids."""
        excluded = pa.array(list(ids), pa.large_string())
        return self.take(np.flatnonzero(pc.invert(pc.is_in(self.ids, value_set=excluded))))


class RecordRefs(Protocol):
    """Ids of records and the generations in which they were written, without their texts."""

    @property
    def ids(self) -> Sequence[str]: ...  # noqa: D102
    @property
    def generations(self) -> Sequence[int]: ...  # noqa: D102


@dataclass
class DuplicateMatches:
    """The result of a duplicate search, one entry per new text. The search fills in the arrays.

    Rows are numbered over the reference first and the new texts after it, so an earlier row always represents a later
    one. A row is dropped only in favor of a row that it was compared with and that is itself kept.
    """

    duplicate_of: NDArray[np.int64]
    """Row of the representative over reference and new texts together; -1 where the text is kept."""
    similarity: NDArray[np.float64]
    """Verified similarity to the representative, or to the nearest kept text that was verified; NaN without one."""
    estimated: NDArray[np.float64]
    """Similarity estimated from sketches, where sketches were used; NaN elsewhere."""
    masked: int = 0
    """Shingles that were left out of the comparison because a large share of the texts has them."""

    @property
    def kept(self) -> NDArray[np.bool_]:
        """Whether each new text is kept."""
        return self.duplicate_of < 0


class InvalidFilterResultError(HeirloomError):
    """A filter result with columns of the wrong type or length."""


@dataclass(frozen=True, kw_only=True)
class FilterResult:
    """The decisions of one filter, one row per record. Each column may be given as a sequence, NumPy or Arrow array.

    Raises:
        InvalidFilterResultError: a column has the wrong type, or another length than `reason`.
    """

    reason: pa.Array
    """Why each record is dropped; an empty string keeps it."""
    score: pa.Array = None
    """The number that was compared with a limit, of kept records too; NaN or null where there is none."""
    duplicate_of: pa.Array = None
    """Id of the record that is kept instead; null where there is none."""
    duplicate_of_generation: pa.Array = None
    """Generation of that record."""
    estimated_jaccard: pa.Array = None
    """Similarity to that record as estimated from sketches; NaN or null where none was used."""

    def __post_init__(self) -> None:
        for field in fields(self):
            values = getattr(self, field.name)
            data_type = _RESULT_TYPES[field.name]
            if values is None and field.name != "reason":
                values = pa.nulls(len(self.reason), data_type)
            try:
                column = _column(values, data_type)
            except (pa.ArrowException, TypeError, ValueError) as error:
                raise InvalidFilterResultError(f"`{field.name}` must be a column of {data_type}s: {error}") from error
            object.__setattr__(self, field.name, column)
            if len(column) != len(self.reason):
                raise InvalidFilterResultError(
                    f"`{field.name}` has {len(column)} rows and `reason` {len(self.reason)}; give one row per record"
                )
        if self.reason.null_count:
            raise InvalidFilterResultError("`reason` has nulls; use an empty string for a record that is kept")

    def __len__(self) -> int:
        return len(self.reason)

    @property
    def kept(self) -> NDArray[np.bool_]:
        """Whether each record is kept."""
        kept: NDArray[np.bool_] = np.asarray(pc.equal(self.reason, ""), bool)
        return kept

    @classmethod
    def drop_where(cls, dropped: Column, reason: str, score: Column | None = None) -> "FilterResult":
        """Drop the records where a boolean array is true, all of them for the same reason."""
        try:
            mask = _column(dropped, pa.bool_())
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise InvalidFilterResultError(f"`dropped` must be a column of booleans: {error}") from error
        return cls(reason=pc.if_else(pc.fill_null(mask, fill_value=False), reason, ""), score=score)

    @classmethod
    def from_duplicates(
        cls, matches: DuplicateMatches, records: RecordSet, reference: RecordRefs, reason: str
    ) -> "FilterResult":
        """Drop each record that duplicates another; rows of `matches` count over `reference` and `records` together."""
        rows = pa.array(matches.duplicate_of, mask=matches.kept)
        ids = pa.concat_arrays([_column(reference.ids, pa.large_string()), records.ids])
        generations = pa.concat_arrays([_column(reference.generations, pa.int32()), records.generations])
        return cls(
            reason=pc.if_else(pc.is_valid(rows), reason, ""),
            score=matches.similarity,
            duplicate_of=ids.take(rows),
            duplicate_of_generation=generations.take(rows),
            estimated_jaccard=matches.estimated,
        )

    @classmethod
    def from_selection(cls, gains: NDArray[np.float64]) -> "FilterResult":
        """Drop the records without a gain: those that a diverse selection left out."""
        return cls(reason=pc.if_else(pa.array(np.isnan(gains)), "others already cover it", ""), score=gains)

    @classmethod
    def from_scores(
        cls, records: RecordSet, prompt_ids: NDArray[np.int64], scores: NDArray[np.float64], kept: NDArray[np.bool_]
    ) -> "FilterResult":
        """Drop the responses that are not the best to their prompt, and name the best one. All scores are stored."""
        best_rows = np.flatnonzero(kept)
        best_prompts, last = np.unique(prompt_ids[best_rows][::-1], return_index=True)
        best_rows = best_rows[::-1][last]
        positions = np.searchsorted(best_prompts, prompt_ids)
        positions[positions == len(best_prompts)] = 0
        has_best = np.zeros(len(records), bool)
        if len(best_prompts):
            has_best = ~kept & (best_prompts[positions] == prompt_ids)
        winners = pa.array(best_rows[positions] if len(best_rows) else np.zeros(len(records), np.int64), mask=~has_best)
        comparable = has_best & ~np.isnan(scores)
        reason = pc.if_else(pa.array(comparable), "another answer is better", "cannot be judged")
        return cls(
            reason=pc.if_else(pa.array(kept), "", reason),
            score=scores,
            duplicate_of=records.ids.take(winners),
            duplicate_of_generation=records.generations.take(winners),
        )


def decision_table(filter_name: str, records: RecordSet, result: FilterResult) -> pa.Table:
    """The decisions of one filter, one row per record in order: the id, the filter, and the columns of the result."""
    return pa.table(
        {
            "id": records.ids,
            "filter": pa.repeat(pa.scalar(filter_name, pa.string()), len(records)),
            "kept": result.kept,
            **{field.name: getattr(result, field.name) for field in fields(result)},
        }
    )


_RESULT_TYPES = {
    "reason": pa.string(),
    "score": pa.float64(),
    "duplicate_of": pa.large_string(),
    "duplicate_of_generation": pa.int32(),
    "estimated_jaccard": pa.float64(),
}


def _column(values: Column, data_type: pa.DataType) -> pa.Array:
    """One Arrow array of a type; a NaN becomes a null."""
    if isinstance(values, pa.ChunkedArray):
        values = pa.concat_arrays([chunk.cast(data_type) for chunk in values.chunks] or [pa.array([], data_type)])
    if isinstance(values, pa.Array):
        column = values.cast(data_type)
        if pa.types.is_floating(data_type):
            column = pc.if_else(pc.is_nan(column), None, column)
        return column
    if isinstance(values, str | bytes):
        raise TypeError(f"found one {type(values).__name__}, not a sequence")
    if isinstance(values, np.ndarray):
        return pa.array(values, data_type, from_pandas=True)
    try:
        return pa.array(values, data_type, from_pandas=True)
    except UnicodeEncodeError:
        return pa.array([str(value).encode("utf-8", "replace").decode() for value in values], data_type)


# Of Arrow arrays, since converting a Python sequence imports pandas where it is installed.
EMPTY_RECORDS = RecordSet(pa.nulls(0), pa.nulls(0), pa.nulls(0))
