"""Choose a spread-out subset without emptying the tails, and say what each pick added.

How the three methods differ is told in docs/diversity.md. Every stratum gives its exact share of what goes, so
that rare kinds of text are thinned no more than common ones; within that, a row is chosen for what it adds.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from curation.embeddings.base import Vectors
from curation.embeddings.kmeans import fit_kmeans, nearest_clusters
from curation.selection.apportionment import largest_remainder
from curation.selection.submodular import Scores, SelectionRequest, dpp, facility_location, k_center
from heirloom.errors import HeirloomError

_CELLS = 20
_ROWS_PER_CELL = 50


class DiversitySettings(BaseModel):
    """`[curate.diversity]`: how much of what is left to keep, and what for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    keep_fraction: float = Field(
        0.9, gt=0, le=1, description="share of the records that reach this sieve that it keeps"
    )
    method: Literal["facility-location", "k-center", "dpp"] = Field(
        "facility-location",
        description="keep what represents the rest, what is far from everything kept, or what is unlike what is kept together",
    )
    diversity_weight: float = Field(1.0, ge=0, le=1, description="0 chooses by quality alone, 1 by diversity alone")
    quality: Literal["log_probability", "words"] = Field(
        "log_probability",
        description="what counts as quality where diversity_weight is below 1: mean log-probability of a token, or length",
    )
    strata: Literal["clusters", "source", "none"] = Field(
        "clusters",
        description="what loses the same share everywhere, so that tails stay: k-means cells of the vectors, sources, or nothing",
    )
    block_size: int = Field(
        4096,
        ge=2,
        description="records that facility-location and dpp choose from together; memory is 4 bytes x its square",
    )


def select_diverse(
    vectors: Vectors,
    settings: DiversitySettings,
    strata: NDArray[np.str_] | None = None,
    quality: Scores | None = None,
) -> Scores:
    """Score of each row when it was chosen, shape (rows,); NaN for the rows that were not.

    Args:
        vectors: of length 1, shape (rows, dimensions).
        settings: how many, and by what.
        strata: name of each row's stratum; left out, k-means cells, or one where `settings.strata` is `none`.
        quality: higher is better, on any scale (ranks are what counts); not needed at `diversity_weight` 1.

    Raises:
        HeirloomError: strata are asked for by source and not given, or quality by a weight below 1 and not given whole.
    """
    keep = round(settings.keep_fraction * len(vectors))
    merit = _ranks(quality, len(vectors), settings)
    groups = _groups(vectors, strata, settings)
    shares = _shares(groups, keep)
    together = max(1, len(vectors)) if settings.method == "k-center" else settings.block_size
    choose = {"facility-location": facility_location, "k-center": k_center, "dpp": dpp}[settings.method]
    scores, seen, sizes = (
        np.full(len(vectors), np.nan),
        np.zeros_like(shares),
        np.bincount(groups, minlength=len(shares)),
    )
    for start in range(0, len(vectors), together):
        rows = slice(start, start + together)
        now = seen + np.bincount(groups[rows], minlength=len(shares))
        # Cumulated, so that what a stratum gives is exact over all blocks and even between them.
        given = shares * now // sizes - shares * seen // sizes
        scores[rows] = choose(
            vectors[rows], SelectionRequest(groups[rows], given, merit[rows], settings.diversity_weight)
        )
        seen = now
    return scores


def _shares(groups: NDArray[np.int64], keep: int) -> NDArray[np.int64]:
    """What each stratum gives, by largest remainder; of equal remainders the smallest stratum is rounded up."""
    sizes = np.bincount(groups)
    order = np.argsort(sizes, kind="stable").tolist()
    given = largest_remainder(keep, {str(group): int(sizes[group]) for group in order}) if keep else {}
    return np.array([given.get(str(group), 0) for group in range(len(sizes))], np.int64)


def _groups(vectors: Vectors, strata: NDArray[np.str_] | None, settings: DiversitySettings) -> NDArray[np.int64]:
    if settings.strata == "source" and strata is None:
        raise HeirloomError(
            "curate.diversity.strata is 'source', but nothing says the sources; set it to 'clusters' or 'none'"
        )
    if strata is not None and settings.strata != "none":
        return np.unique(strata, return_inverse=True)[1]
    cells = min(_CELLS, len(vectors) // _ROWS_PER_CELL) if settings.strata == "clusters" else 1
    if cells < 2:
        return np.zeros(len(vectors), np.int64)
    # Numbered without gaps: a cell in which nothing lies has no share.
    return np.unique(nearest_clusters(vectors, fit_kmeans(vectors, cells))[:, 0], return_inverse=True)[1]


def _ranks(quality: Scores | None, rows: int, settings: DiversitySettings) -> Scores:
    """From 0 for the worst to 1 for the best; equals share a rank."""
    if settings.diversity_weight == 1:
        return np.zeros(rows)
    if quality is None or not np.isfinite(quality).all():
        missing = "none is there" if quality is None else f"{(~np.isfinite(quality)).sum()} of {rows} records have none"
        raise HeirloomError(
            f"curate.diversity.diversity_weight is {settings.diversity_weight:g} and needs {settings.quality} of every record,"
            f" but {missing}; set curate.diversity.quality = 'words', or diversity_weight = 1"
        )
    ordered = np.sort(quality)
    below, upto = np.searchsorted(ordered, quality, "left"), np.searchsorted(ordered, quality, "right")
    return (below + upto - 1) / 2 / max(1, rows - 1)
