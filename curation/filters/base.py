"""The interface of a filter, and what a filter can get besides the records that it looks at.

The filters of Heirloom and those of a user have the same interface; docs/extending.md shows how to write one.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import BaseModel

from curation.decisions import EMPTY_RECORDS, FilterResult, RecordSet
from curation.dedup.reference import ReferenceIndex
from curation.embeddings.base import Vectors
from heirloom.errors import HeirloomError
from heirloom.settings import Settings

Need = Literal[
    "embeddings",
    "metadata",
    "check_results",
    "human_train",
    "human_index",
    "protected",
    "survivors",
    "survivor_index",
    "references",
]
"""Something that a filter takes from its `FilterContext`, by the name of the attribute or method there."""


class NoSettings(Settings):
    """The settings of a filter that has none."""


NO_SETTINGS = NoSettings()


class Filter(Protocol):
    """Decides which records of a batch are kept."""

    @property
    def name(self) -> str:
        """The name in `curate.filters` and in the decisions."""
        ...

    @property
    def settings(self) -> BaseModel:
        """The frozen model of the filter's settings."""
        ...

    @property
    def needs(self) -> Collection[Need]:
        """What `apply` takes from its context, so that it can be loaded, or found missing, before the work starts."""
        ...

    def apply(self, records: RecordSet, context: "FilterContext") -> FilterResult:
        """Decide about all records that the filters before have kept; one row per record, in the same order."""
        ...


@dataclass(frozen=True)
class RecordMetadata:
    """How candidates were generated, one entry per record."""

    sources: Sequence[str]
    mean_logprobs: NDArray[np.float64]
    """Mean log-probability per token, in nats; NaN where it is unknown."""
    prompts: Sequence[str] = ()
    prompt_ids: Sequence[int] = ()
    """Number of each record's prompt; completions of the same prompt have the same number."""


@dataclass(frozen=True, kw_only=True)
class FilterContext:
    """What filters can use besides the records that they look at. Only what their `needs` name is loaded."""

    human_train: RecordSet = EMPTY_RECORDS
    """Human training records."""
    protected: RecordSet = EMPTY_RECORDS
    """Held-out records and eval sets."""
    survivors: RecordSet = EMPTY_RECORDS
    """Synthetic records that earlier generations kept."""
    references: RecordSet = EMPTY_RECORDS
    """Known texts of `heirloom curate --reference`; none in a run."""
    human_index: ReferenceIndex | None = None
    """Sketches of the human training records; None where `human_train` holds their texts."""
    survivor_index: ReferenceIndex | None = None
    """Sketches of the survivors; None where `survivors` holds their texts."""
    embed: Callable[[RecordSet], Vectors] | None = None
    """Encode records into unit vectors, shape (records, dimensions)."""
    embed_known: Callable[[], Vectors] | None = None
    """Encode the human training records and the survivors."""
    describe: Callable[[RecordSet], RecordMetadata] | None = None
    """Look up how records were generated."""
    check_results: pa.Table | None = None
    """Results of the checks of the candidates, with the columns `id`, `passed`, `outcome` and `detail`."""
    seed: int = 0
    """Seed for filters that draw at random."""
    _embedded: list[tuple[RecordSet, Vectors]] = field(default_factory=list, init=False, repr=False)

    def embeddings(self, records: RecordSet) -> Vectors:
        """Unit vectors of records, shape (records, dimensions).

        The records of the first call are encoded once; later filters see a part of them, and get a part of the rows.
        """
        if self.embed is None:
            raise HeirloomError("This FilterContext has no encoder; create it with `embed`")
        for encoded, vectors in self._embedded:
            rows = pc.index_in(records.ids, value_set=encoded.ids)
            if not rows.null_count:
                return vectors[rows.to_numpy()]
        vectors = self.embed(records)
        self._embedded.append((records, vectors))
        return vectors

    def known_embeddings(self) -> Vectors:
        """Unit vectors of the human training records and the survivors; shape (0, 0) where there are none."""
        return self.embed_known() if self.embed_known else np.zeros((0, 0), np.float32)

    def metadata(self, records: RecordSet) -> RecordMetadata | None:
        """How the records were generated; None for records that do not come from a run."""
        return self.describe(records) if self.describe else None
