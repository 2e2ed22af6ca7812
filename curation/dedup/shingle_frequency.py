"""Shingles that a large share of the texts has, such as a template's: which they are, and sets without them."""

from itertools import pairwise

import numpy as np

from curation.dedup.kernels.dispatch import Hashes, Places

_ASKED, _FEWEST = 2000, 10
"""Texts that are asked which shingles are common, evenly spread; and how many of them must have one."""


def sample_rows(texts: int) -> Places:
    """Rows of the texts that are asked, of so many."""
    return np.unique(np.linspace(0, max(0, texts - 1), _ASKED).astype(np.int64))[:texts]


def frequent_shingles(hashes: Hashes, starts: Places, share: float) -> Hashes:
    """Sorted hashes that more than `share` of these sets hold."""
    distinct = [np.unique(hashes[start:stop]) for start, stop in pairwise(starts)]
    codes, counts = np.unique(np.concatenate([hashes[:0], *distinct]), return_counts=True)
    return codes[(counts > share * len(distinct)) & (counts >= _FEWEST)]


def drop_frequent(hashes: Hashes, starts: Places, common: Hashes) -> tuple[Hashes, Places]:
    """The sets without common hashes; a set of nothing else keeps them."""
    place = np.minimum(np.searchsorted(common, hashes), len(common) - 1)
    stays = common[place] != hashes
    owner = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    left = np.bincount(owner[stays], minlength=len(starts) - 1)
    stays |= left[owner] == 0
    return hashes[stays], np.concatenate(([0], np.cumsum(np.bincount(owner[stays], minlength=len(starts) - 1))))
