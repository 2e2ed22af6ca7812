"""Select a diverse subset without thinning out the tails.

Every stratum keeps its exact share, so that rare kinds of text lose no larger share than common ones; within a stratum,
rows are selected by their marginal gain. docs/diversity.md compares the three methods.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from curation.embeddings.base import Vectors
from curation.embeddings.kmeans import fit_kmeans, nearest_clusters
from curation.selection.apportionment import largest_remainder
from curation.selection.submodular import Scores, SelectionRequest, dpp, facility_location, k_center
from heirloom.errors import HeirloomError
from heirloom.settings import Settings

_MAX_CLUSTERS = 20
_MIN_ROWS_PER_CLUSTER = 50
_METHODS = {"facility-location": facility_location, "k-center": k_center, "dpp": dpp}


class DiversitySettings(Settings):
    """`[curate.diversity]`: the share of records to keep, and the method that selects them."""

    keep_fraction: float = Field(
        0.9, gt=0, le=1, description="share of the records that reach this filter that it keeps"
    )
    method: Literal["facility-location", "k-center", "dpp"] = Field(
        "facility-location",
        description="facility-location keeps records that represent the others, k-center records far from every kept "
        "one, dpp records "
        "that the kept ones together do not explain",
    )
    diversity_weight: float = Field(
        1.0,
        ge=0,
        le=1,
        description="weight of diversity against quality: 1 selects by diversity only, 0 by quality only",
    )
    quality: Literal["log_probability", "words"] = Field(
        "log_probability",
        description="quality of a record, used if diversity_weight is below 1: mean log-probability per token, or "
        "number of words",
    )
    strata: Literal["clusters", "source", "none"] = Field(
        "clusters",
        description="groups that each keep the same share, so that rare kinds of text are not lost: k-means clusters "
        "of the vectors, "
        "sources, or no groups",
    )
    block_size: int = Field(
        4096,
        ge=2,
        description="records that facility-location and dpp select from together; needs 4 bytes of memory x its square",
    )


def select_diverse(
    vectors: Vectors,
    settings: DiversitySettings,
    strata: NDArray[np.str_] | None = None,
    quality: Scores | None = None,
) -> Scores:
    """Return the score of each row at the time it was selected, shape (rows,); NaN for the rows that were not.

    Args:
        vectors: of length 1, shape (rows, dimensions).
        settings: share of rows to keep, and method.
        strata: name of each row's stratum; without it, k-means clusters, or one stratum if `settings.strata` is `none`.
        quality: higher is better, on any scale (only ranks are used); not needed at `diversity_weight` 1.

    Raises:
        HeirloomError: the settings need sources or qualities that are not given for every row.
    """
    quality_ranks = _ranks(quality, len(vectors), settings)
    groups = _groups(vectors, strata, settings)
    quotas = _quotas(groups, round(settings.keep_fraction * len(vectors)))
    sizes = np.bincount(groups, minlength=len(quotas))
    block_size = max(1, len(vectors)) if settings.method == "k-center" else settings.block_size
    scores, seen = np.full(len(vectors), np.nan), np.zeros_like(quotas)
    for start in range(0, len(vectors), block_size):
        rows = slice(start, start + block_size)
        seen_after = seen + np.bincount(groups[rows], minlength=len(quotas))
        request = SelectionRequest(
            strata=groups[rows],
            # Differences of cumulative quotas: exact over all blocks, and even between them.
            quotas=quotas * seen_after // sizes - quotas * seen // sizes,
            quality=quality_ranks[rows],
            diversity_weight=settings.diversity_weight,
        )
        scores[rows] = _METHODS[settings.method](vectors[rows], request)
        seen = seen_after
    return scores


def _quotas(groups: NDArray[np.int64], keep: int) -> NDArray[np.int64]:
    """Divide `keep` rows among strata by largest remainder; of equal remainders the smallest stratum is rounded up."""
    sizes = np.bincount(groups)
    smallest_first = np.argsort(sizes, kind="stable").tolist()
    counts = largest_remainder(keep, {str(group): int(sizes[group]) for group in smallest_first}) if keep else {}
    return np.array([counts.get(str(group), 0) for group in range(len(sizes))], np.int64)


def _groups(vectors: Vectors, strata: NDArray[np.str_] | None, settings: DiversitySettings) -> NDArray[np.int64]:
    if settings.strata == "source" and strata is None:
        raise HeirloomError(
            "`curate.diversity.strata` is 'source', but the records have no sources. Set it to 'clusters' or 'none'."
        )
    if strata is not None and settings.strata != "none":
        return np.unique(strata, return_inverse=True)[1]
    num_clusters = min(_MAX_CLUSTERS, len(vectors) // _MIN_ROWS_PER_CLUSTER) if settings.strata == "clusters" else 1
    if num_clusters < 2:
        return np.zeros(len(vectors), np.int64)
    nearest = nearest_clusters(vectors, fit_kmeans(vectors, num_clusters))[:, 0]
    # Number the clusters without gaps, since an empty one has no share.
    return np.unique(nearest, return_inverse=True)[1]


def _ranks(quality: Scores | None, rows: int, settings: DiversitySettings) -> Scores:
    """Return the rank of each row from 0 (worst) to 1 (best); equal qualities share a rank."""
    if settings.diversity_weight == 1:
        return np.zeros(rows)
    if quality is None or not np.isfinite(quality).all():
        missing = (
            "no record has one" if quality is None else f"{(~np.isfinite(quality)).sum()} of {rows} records have none"
        )
        raise HeirloomError(
            f"`curate.diversity.diversity_weight` is {settings.diversity_weight:g} and needs the {settings.quality} of "
            "every "
            f"record, but {missing}. Set `curate.diversity.quality = 'words'`, or `diversity_weight = 1`."
        )
    ordered = np.sort(quality)
    below, up_to = np.searchsorted(ordered, quality, "left"), np.searchsorted(ordered, quality, "right")
    return (below + up_to - 1) / 2 / max(1, rows - 1)
