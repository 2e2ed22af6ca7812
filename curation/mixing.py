"""Choose the human records and survivors of the next corpus, by one of six policies, each exact to the record.

- `replace`: the newest survivors only.
- `accumulate`: all human records and all survivors so far.
- `accumulate-subsample`: a random subset of fixed size of the same pool (Kazdan et al. 2024).
- `fixed-fraction`: a fixed size with a fixed fraction of human records.
- `anchor`: all human records and the newest survivors.
- `mixture`: a fixed size of newest survivors, records of the last corpus and human records, in weights that can differ
  for each generation: p(i+1) = alpha p_model + beta p(i) + gamma p(0) of Shumailov et al. 2024.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from curation.selection.apportionment import (
    Shares,
    largest_remainder,
    quotas_by_source,
    require_enough,
    rows_by_group,
    validate_shares,
)
from curation.selection.sampling import fill_to_total
from heirloom.errors import HeirloomError
from heirloom.settings import Settings

Policy = Literal["replace", "accumulate", "accumulate-subsample", "fixed-fraction", "anchor", "mixture"]
_Rows: TypeAlias = NDArray[np.int64]
_FIXED_SIZE_POLICIES = ("accumulate-subsample", "fixed-fraction", "mixture")
_NO_ROWS: _Rows = np.zeros(0, np.int64)


class MixSettings(Settings):
    """`[mix]`: composition of the next training corpus."""

    policy: Policy = Field("anchor", description="which records form the next corpus")
    human_fraction: float | None = Field(
        None, ge=0, le=1, description="fixed-fraction: fraction of the records that are human"
    )
    num_records: int | None = Field(
        None,
        ge=1,
        description="fixed-fraction, accumulate-subsample, mixture: records in a corpus; default: as many as human "
        "training "
        "records",
    )
    mixture_weights: tuple[tuple[float, float, float], ...] | None = Field(
        None,
        min_length=1,
        # Excluded from the fingerprint where it is not set: older recipes do not have it.
        exclude_if=lambda weights: weights is None,
        description="mixture: weights of newest survivors, records of the last corpus, and newly drawn human records, "
        "as "
        "`[[0.8, 0.1, 0.1]]`; one triple for each generation from the first, the last one for all that follow",
    )
    human_repeats: float = Field(
        1.0, ge=0, description="mean number of times that training sees a human record in a pass; 2 is twice, 0 never"
    )
    synthetic_repeats: float = Field(1.0, ge=0, description="the same for a synthetic record")
    human_source_shares: Shares = Field(
        None,
        description="fixed-fraction: share of the human records from each source, as `{letters = 0.5, wiki = 0.5}`, "
        "exact to the record; `proportional` for the shares of the human training records; default: drawn from all "
        "sources "
        "at random",
    )

    stratify_by: Literal["source", "rarity", "attributes"] | None = Field(
        None,
        description="fixed-fraction: strata of the survivors, each with the share that it has among human training "
        "records: "
        "source, or rarity of a text's rarest human word; or the cells of the attribute grid with equal shares; "
        "default: "
        "survivors are drawn at random",
    )

    @model_validator(mode="after")
    def _fits_policy(self) -> Self:
        validate_shares(self.human_source_shares, "human_source_shares")
        if self.human_source_shares is not None and self.policy != "fixed-fraction":
            raise HeirloomError(
                f"`human_source_shares` applies to policy 'fixed-fraction' only; the policy is {self.policy!r}. Remove "
                "it."
            )
        if self.stratify_by and self.policy != "fixed-fraction":
            raise HeirloomError(
                f"`stratify_by` applies to policy 'fixed-fraction' only; the policy is {self.policy!r}. Remove it."
            )
        if (self.human_fraction is not None) != (self.policy == "fixed-fraction"):
            raise HeirloomError("Policy 'fixed-fraction' needs `human_fraction`, and no other policy accepts it.")
        if self.num_records is not None and self.policy not in _FIXED_SIZE_POLICIES:
            raise HeirloomError(
                f"`num_records` applies to the policies {', '.join(_FIXED_SIZE_POLICIES)} only; "
                f"the policy is {self.policy!r}. Remove it."
            )
        if (self.mixture_weights is not None) != (self.policy == "mixture"):
            raise HeirloomError("Policy 'mixture' needs `mixture_weights`, and no other policy accepts it.")
        for triple in self.mixture_weights or ():
            if min(triple) < 0 or abs(sum(triple) - 1) > 1e-6:
                raise HeirloomError(
                    f"`mixture_weights` contains {list(triple)}. Each triple must be weights of 0 or more that sum to "
                    "1."
                )
        return self

    def for_generation(self, generation: int) -> Self:
        """Return the settings of one generation, with its triple of weights only."""
        if not self.mixture_weights:
            return self
        triple = self.mixture_weights[min(generation, len(self.mixture_weights)) - 1]
        return self.model_copy(update={"mixture_weights": (triple,)})

    @property
    def reuses_last_corpus(self) -> bool:
        """Whether a corpus may contain records of the last one."""
        return any(previous for _, previous, _ in self.mixture_weights or ())


@dataclass(frozen=True)
class Strata:
    """Stratum of each human record and of each newest survivor."""

    human: NDArray[np.generic]
    newest: NDArray[np.generic]


@dataclass(frozen=True, kw_only=True)
class MixPools:
    """Numbers of available records, and properties of them that some policies need."""

    num_human: int
    num_newest: int
    """Survivors of the newest generation."""
    num_earlier: int = 0
    """Survivors of earlier generations."""
    human_sources: Sequence[str] = ()
    """Source of each human record, for `human_source_shares`."""
    strata: Strata | None = None
    """For `stratify_by`."""
    last_human: _Rows = field(default_factory=lambda: _NO_ROWS)
    """Rows of the human records in the last corpus, for `mixture`."""
    last_earlier: _Rows = field(default_factory=lambda: _NO_ROWS)
    """Rows of the survivors of earlier generations in the last corpus, for `mixture`."""


@dataclass(frozen=True)
class MixIndices:
    """Rows to take, in increasing order."""

    human: _Rows
    newest: _Rows
    earlier: _Rows

    @property
    def human_fraction(self) -> float:
        """Fraction of the records that are human; 0 for no records."""
        return len(self.human) / max(1, len(self.human) + len(self.newest) + len(self.earlier))


def draw_mix(settings: MixSettings, pools: MixPools, rng: np.random.Generator) -> MixIndices:
    """Draw the rows of the next corpus.

    Raises:
        HeirloomError: the policy needs more records than are available; records are never repeated to make up for it.
    """
    human, newest = np.arange(pools.num_human), np.arange(pools.num_newest)
    if settings.policy == "replace":
        return MixIndices(_NO_ROWS, newest, _NO_ROWS)
    if settings.policy == "accumulate":
        return MixIndices(human, newest, np.arange(pools.num_earlier))
    if settings.policy == "anchor":
        return MixIndices(human, newest, _NO_ROWS)
    size = settings.num_records or pools.num_human
    if settings.policy == "fixed-fraction":
        return _draw_fixed_fraction(settings, pools, size, rng)
    if settings.mixture_weights:
        return _draw_mixture(settings.mixture_weights[0], pools, size, rng)
    return _draw_subsample(pools, size, rng)


def _draw_fixed_fraction(settings: MixSettings, pools: MixPools, size: int, rng: np.random.Generator) -> MixIndices:
    num_human = round(size * (settings.human_fraction or 0))
    num_newest = size - num_human
    _require("human records", num_human, pools.num_human)
    _require("survivors", num_newest, pools.num_newest)
    human = _draw_human(settings.human_source_shares, pools, num_human, rng)
    if pools.strata:
        newest = _draw_stratified(pools.strata, num_newest, rng)
    else:
        newest = _draw(pools.num_newest, num_newest, rng)
    return MixIndices(human, newest, _NO_ROWS)


def _draw_mixture(weights: Sequence[float], pools: MixPools, size: int, rng: np.random.Generator) -> MixIndices:
    """Draw human records first, then other records of the last corpus, so that no record is taken twice."""
    counts = largest_remainder(size, dict(zip(("newest", "last", "human"), weights, strict=True)))
    _require("human records", counts["human"], pools.num_human)
    _require("survivors", counts["newest"], pools.num_newest)
    human = _draw(pools.num_human, counts["human"], rng)
    last_human = np.setdiff1d(pools.last_human, human)
    num_last = len(last_human) + len(pools.last_earlier)
    _require("records of the last corpus that are not taken yet", counts["last"], num_last)
    drawn = _draw(num_last, counts["last"], rng)
    from_human = last_human[drawn[drawn < len(last_human)]]
    earlier = pools.last_earlier[drawn[drawn >= len(last_human)] - len(last_human)]
    newest = _draw(pools.num_newest, counts["newest"], rng)
    return MixIndices(np.sort(np.concatenate([human, from_human])), newest, np.sort(earlier))


def _draw_subsample(pools: MixPools, size: int, rng: np.random.Generator) -> MixIndices:
    newest_start = pools.num_human
    earlier_start = newest_start + pools.num_newest
    total = earlier_start + pools.num_earlier
    _require("records in the pool", size, total)
    drawn = _draw(total, size, rng)
    return MixIndices(
        human=drawn[drawn < newest_start],
        newest=drawn[(drawn >= newest_start) & (drawn < earlier_start)] - newest_start,
        earlier=drawn[drawn >= earlier_start] - earlier_start,
    )


def _draw_human(shares: Shares, pools: MixPools, count: int, rng: np.random.Generator) -> _Rows:
    if shares is None:
        return _draw(pools.num_human, count, rng)
    drawn, rows_of = [_NO_ROWS], rows_by_group(pools.human_sources)
    for source, quota in quotas_by_source(count, shares, pools.human_sources).items():
        rows = rows_of.get(source, _NO_ROWS)
        _require(f"human records of source {source}", quota, len(rows))
        drawn.append(rows[_draw(len(rows), quota, rng)])
    return np.sort(np.concatenate(drawn))


def _draw_stratified(strata: Strata, count: int, rng: np.random.Generator) -> _Rows:
    """Draw survivors with the shares of the strata among human records, as far as each stratum has survivors."""
    names, numbers = np.unique(np.concatenate([strata.human, strata.newest]), return_inverse=True)
    human, newest = numbers[: len(strata.human)], numbers[len(strata.human) :]
    shares = np.bincount(human, minlength=len(names)) / len(human)
    capacity = np.bincount(newest, minlength=len(names))
    counts = fill_to_total(count, shares, capacity, int(rng.integers(1 << 31)))
    drawn, rows_of = [], rows_by_group(newest.tolist())
    for stratum, stratum_count in enumerate(counts.tolist()):
        drawn.append(rng.permutation(rows_of.get(stratum, _NO_ROWS))[:stratum_count])
    return np.sort(np.concatenate(drawn))


def _require(unit: str, required: int, available: int) -> None:
    remedy = "Lower `mix.num_records`, generate more candidates, or ingest more human text."
    require_enough("The mix", required, available, unit, remedy)


def _draw(population: int, count: int, rng: np.random.Generator) -> _Rows:
    return np.sort(rng.choice(population, count, replace=False))
