"""Count what each filter dropped of each source: in one curation, and in earlier ones with the same settings."""

from collections import defaultdict
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from curation.metrics.filter_rates import FilterRate, FilterRates
from storage.artifacts.artifact import Artifact, read_table
from tasks.context import CuratedCandidates


def count_filter_rates(records: pa.Table, decisions: pa.Table) -> FilterRates:
    """Count the dropped records by source and filter.

    Args:
        records: table with the columns `id` and `source`.
        decisions: table with the columns `id`, `filter` and `kept`. Ids that `records` lacks are not counted.
    """
    rows = pc.index_in(decisions["id"], value_set=records["id"].combine_chunks())
    dropped = pa.table(
        {
            "source": records["source"].take(rows),
            "filter": decisions["filter"],
            "dropped": pc.cast(pc.invert(decisions["kept"]), pa.int64()),
        }
    )
    # An unreadable document has no source, and no filter saw it.
    by_source = dropped.filter(pc.is_valid(dropped["source"])).group_by(["source", "filter"])
    counts = by_source.aggregate([("dropped", "sum"), ([], "count_all")]).to_pylist()
    return {
        (count["source"], count["filter"]): FilterRate(count["dropped_sum"], count["count_all"]) for count in counts
    }


def previous_filter_rates(decisions: Artifact, synthetic: Sequence[CuratedCandidates]) -> FilterRates:
    """Sum the rates of all earlier generations that were curated with the settings of `decisions`."""
    total: dict[tuple[str, str], FilterRate] = defaultdict(lambda: FilterRate(0, 0))
    for curated in synthetic:
        if curated.decisions.settings == decisions.settings:
            records = read_table(curated.candidates.folder, ["id", "source"])
            earlier = read_table(curated.decisions.folder, ["id", "filter", "kept"])
            for key, rate in count_filter_rates(records, earlier).items():
                total[key] += rate
    return total
