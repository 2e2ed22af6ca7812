"""Rows whose laws need no language model: games, chains, refitted toys. Seconds each, on `curation/theory`."""

from collections.abc import Iterator

from benchmarks.figures import Figure


def replay(*, rounds: int = 300) -> Iterator[Figure]:
    """Racca, Valko, Sanyal 2026, arXiv:2603.11784."""
    yield Figure("rounds", rounds, "")
