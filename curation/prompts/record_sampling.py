"""Which records of the reserve are prompted from: in rounds, alike, by quotas of their sources, or by topic.

Each round asks every record once before the next begins, so no record of a source or topic is asked more than once
more often than another of it.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from curation.selection.apportionment import Shares, enough, rows_of, source_quotas
from curation.selection.sampling import filled
from curation.selection.topics import Topics


def asked_alike(dice: np.random.Generator, records: int, count: int, rounds: int) -> NDArray[np.int64]:
    """Rows of `count` prompts, of all records alike.

    Raises:
        ValueError: more prompts are asked for than the rounds allow.
    """
    return _asked(dice, np.arange(records), count, rounds, "reserve records")


def asked_by_source(
    dice: np.random.Generator, sources: Sequence[str], shares: Shares, count: int, rounds: int
) -> NDArray[np.int64]:
    """Rows of `count` prompts with exact shares of sources; `sources` names the source of each record.

    Raises:
        ValueError: more prompts are asked of a source than the rounds allow.
    """
    wanted = source_quotas(count, shares, sources)
    parts = [
        _asked(dice, rows_of(source, sources), share, rounds, f"records of source {source}")
        for source, share in wanted.items()
    ]
    return dice.permutation(np.concatenate(parts))


def asked_by_topic(dice: np.random.Generator, topics: Topics, count: int, rounds: int) -> NDArray[np.int64]:
    """Rows of `count` prompts with the shares of topics, as far as the rounds give them room.

    Raises:
        ValueError: more prompts are asked for than the rounds allow.
    """
    _refuse_more("reserve records", count, rounds, len(topics.of_human))
    wanted = filled(count, topics.shares, rounds * topics.human, int(dice.integers(1 << 31)))
    parts = [cycled(dice, np.flatnonzero(topics.of_human == topic), times) for topic, times in enumerate(wanted)]
    return dice.permutation(np.concatenate(parts))


def cycled(dice: np.random.Generator, rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """`count` of the rows, in rounds of an order of dice each."""
    return np.concatenate([rows[:0], *(dice.permutation(rows) for _ in range(-(-count // max(1, len(rows)))))])[:count]


def _asked(dice: np.random.Generator, rows: NDArray[np.int64], count: int, rounds: int, what: str) -> NDArray[np.int64]:
    _refuse_more(what, count, rounds, len(rows))
    return cycled(dice, rows, count)


def _refuse_more(what: str, count: int, rounds: int, records: int) -> None:
    times = "" if rounds == 1 else f", each at most {rounds} times"
    remedy = "lower prompts.candidates_per_human_record, raise prompts.rounds, or ingest more"
    enough("the plan of prompts", count, rounds * records, f"prompts from {what}{times}", remedy)
