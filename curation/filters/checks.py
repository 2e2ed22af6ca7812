"""Keep the candidates whose answer passed the check of their problem."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from curation.decisions import FilterResult, RecordSet
from curation.filters.base import FilterContext, Need
from heirloom.errors import HeirloomError
from heirloom.settings import Settings


class ChecksSettings(Settings):
    """`[curate.checks]`: what becomes of candidates whose human record has no check."""

    without_check: Literal["drop", "keep"] = Field(
        "drop", description="what to do with a candidate whose human record has no check"
    )


@dataclass(frozen=True)
class ChecksFilter:
    """Drops a candidate that did not pass its check."""

    name: ClassVar[str] = "checks"
    needs: ClassVar[frozenset[Need]] = frozenset({"check_results"})
    settings: ChecksSettings

    def apply(self, records: RecordSet, context: FilterContext) -> FilterResult:
        """Look up the stored result of each record.

        Raises:
            HeirloomError: the records were not verified.
        """
        if context.check_results is None:
            raise HeirloomError("The filter `checks` needs the results of checks, which only candidates of a run have")
        results = context.check_results.combine_chunks()
        found = results.take(pc.index_in(records.ids, value_set=results["id"].combine_chunks().cast(pa.large_string())))
        outcome, detail = found["outcome"].combine_chunks(), found["detail"].combine_chunks()
        kept = found["passed"].combine_chunks()
        if self.settings.without_check == "keep":
            kept = pc.or_(kept, pc.equal(outcome, "no_check"))
        reason = pc.if_else(pc.equal(detail, ""), outcome, pc.binary_join_element_wise(outcome, detail, ": "))
        return FilterResult(reason=pc.if_else(kept, "", reason))
