"""Sample the human records to prompt from: uniformly, by source quotas, or by topic.

Each round uses every record once, in random order, before the next round starts. So within a source or topic, the
numbers of prompts per record differ by at most 1.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from curation.selection.apportionment import Shares, quotas_by_source, require_enough, rows_by_group
from curation.selection.sampling import fill_to_total
from curation.selection.topics import TopicModel


def sample_uniform(rng: np.random.Generator, num_records: int, count: int, rounds: int) -> NDArray[np.int64]:
    """Return the rows of `count` prompts, sampled from all records.

    Raises:
        HeirloomError: `count` exceeds `rounds` prompts per record.
    """
    _require_records("human training records", count, rounds, num_records)
    return cycle_shuffled(rng, np.arange(num_records), count)


def sample_by_source(
    rng: np.random.Generator, sources: Sequence[str], shares: Shares, count: int, rounds: int
) -> NDArray[np.int64]:
    """Return the rows of `count` prompts with exact shares of sources; `sources` is the source of each record.

    Raises:
        HeirloomError: the quota of a source exceeds `rounds` prompts per record.
    """
    drawn, rows_of, no_rows = [], rows_by_group(sources), np.zeros(0, np.int64)
    for source, quota in quotas_by_source(count, shares, sources).items():
        rows = rows_of.get(source, no_rows)
        _require_records(f"records of source {source}", quota, rounds, len(rows))
        drawn.append(cycle_shuffled(rng, rows, quota))
    return rng.permutation(np.concatenate(drawn))


def sample_by_topic(rng: np.random.Generator, topics: TopicModel, count: int, rounds: int) -> NDArray[np.int64]:
    """Return the rows of `count` prompts by the topics' prompt shares, with at most `rounds` prompts per record.

    Raises:
        HeirloomError: `count` exceeds `rounds` prompts per record.
    """
    _require_records("human training records", count, rounds, len(topics.assignment))
    counts = fill_to_total(count, topics.prompt_share, rounds * topics.human_count, int(rng.integers(1 << 31)))
    rows_of, no_rows = rows_by_group(topics.assignment.tolist()), np.zeros(0, np.int64)
    drawn = [cycle_shuffled(rng, rows_of.get(topic, no_rows), topic_count) for topic, topic_count in enumerate(counts)]
    return rng.permutation(np.concatenate(drawn))


def cycle_shuffled(rng: np.random.Generator, rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return `count` rows: rounds over all rows, each in a new random order."""
    num_rounds = -(-count // max(1, len(rows)))
    return np.concatenate([rows[:0], *(rng.permutation(rows) for _ in range(num_rounds))])[:count]


def _require_records(unit: str, count: int, rounds: int, num_records: int) -> None:
    times = "" if rounds == 1 else f", each at most {rounds} times"
    require_enough(
        "The prompt plan",
        count,
        rounds * num_records,
        f"prompts from {unit}{times}",
        "Lower `prompts.prompts_per_human_record`, raise `prompts.max_prompts_per_record`, or ingest more human text.",
    )
