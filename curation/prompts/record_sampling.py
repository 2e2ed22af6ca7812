"""Which records of the reserve are prompted from: in rounds, alike, by quotas of their sources, or by topic.

Each round asks every record once before the next begins, so no record of a source or topic is asked more than once
more often than another of it.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from curation.selection.apportionment import Shares, quotas_by_source, require_enough, rows_where
from curation.selection.sampling import fill_to_total
from curation.selection.topics import TopicModel


def sample_uniform(rng: np.random.Generator, records: int, count: int, rounds: int) -> NDArray[np.int64]:
    """Rows of `count` prompts, of all records alike.

    Raises:
        HeirloomError: more prompts are asked for than the rounds allow.
    """
    return _asked(rng, np.arange(records), count, rounds, "reserve records")


def sample_by_source(
    rng: np.random.Generator, sources: Sequence[str], shares: Shares, count: int, rounds: int
) -> NDArray[np.int64]:
    """Rows of `count` prompts with exact shares of sources; `sources` names the source of each record.

    Raises:
        HeirloomError: more prompts are asked of a source than the rounds allow.
    """
    wanted = quotas_by_source(count, shares, sources)
    parts = [
        _asked(rng, rows_where(source, sources), share, rounds, f"records of source {source}")
        for source, share in wanted.items()
    ]
    return rng.permutation(np.concatenate(parts))


def sample_by_topic(rng: np.random.Generator, topics: TopicModel, count: int, rounds: int) -> NDArray[np.int64]:
    """Rows of `count` prompts with the shares of topics, as far as the rounds give them room.

    Raises:
        HeirloomError: more prompts are asked for than the rounds allow.
    """
    _refuse_more("reserve records", count, rounds, len(topics.assignment))
    wanted = fill_to_total(count, topics.prompt_share, rounds * topics.human_count, int(rng.integers(1 << 31)))
    parts = [
        cycle_shuffled(rng, np.flatnonzero(topics.assignment == topic), times) for topic, times in enumerate(wanted)
    ]
    return rng.permutation(np.concatenate(parts))


def cycle_shuffled(rng: np.random.Generator, rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """`count` of the rows, in rounds of an order of dice each."""
    return np.concatenate([rows[:0], *(rng.permutation(rows) for _ in range(-(-count // max(1, len(rows)))))])[:count]


def _asked(rng: np.random.Generator, rows: NDArray[np.int64], count: int, rounds: int, what: str) -> NDArray[np.int64]:
    _refuse_more(what, count, rounds, len(rows))
    return cycle_shuffled(rng, rows, count)


def _refuse_more(what: str, count: int, rounds: int, records: int) -> None:
    times = "" if rounds == 1 else f", each at most {rounds} times"
    remedy = "lower prompts.prompts_per_human_record, raise prompts.max_prompts_per_record, or ingest more"
    require_enough("the plan of prompts", count, rounds * records, f"prompts from {what}{times}", remedy)
