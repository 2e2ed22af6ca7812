"""What each sieve dropped of each source, counted from decisions: of one curation, and of earlier ones like it."""

from collections import defaultdict
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from curation.metrics.filter_rates import FilterRate, FilterRates
from storage.artifacts.artifact import Artifact, read_table
from tasks.context import CuratedCandidates


def count_filter_rates(records: pa.Table, decisions: pa.Table) -> FilterRates:
    """By source and sieve; of `records` with `id` and `source`, and decisions with `id`, `filter` and `kept`."""
    places = pc.index_in(decisions["id"], value_set=records["id"].combine_chunks())
    told = pa.table(
        {
            "source": records["source"].take(places),
            "filter": decisions["filter"],
            "dropped": pc.cast(pc.invert(decisions["kept"]), pa.int64()),
        }
    )
    # What cannot be read has no source, and no sieve saw it.
    counted = told.filter(pc.is_valid(told["source"])).group_by(["source", "filter"])
    rows = counted.aggregate([("dropped", "sum"), ([], "count_all")]).to_pylist()
    return {(row["source"], row["filter"]): FilterRate(row["dropped_sum"], row["count_all"]) for row in rows}


def previous_filter_rates(decisions: Artifact, synthetic: Sequence[CuratedCandidates]) -> FilterRates:
    """Those of all earlier generations whose sieves were set as those of `decisions` are."""
    found: dict[tuple[str, str], FilterRate] = defaultdict(lambda: FilterRate(0, 0))
    for curated in synthetic:
        if curated.decisions.settings == decisions.settings:
            records = read_table(curated.candidates.folder, ["id", "source"])
            told = read_table(curated.decisions.folder, ["id", "filter", "kept"])
            for key, toll in count_filter_rates(records, told).items():
                found[key] += toll
    return found
