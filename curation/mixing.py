"""How many and which records make the next corpus: six policies, each exact to the record.

replace: the newest survivors alone. accumulate: all human records and all survivors so far.
accumulate-subsample: the same pool cut to a fixed size (Kazdan et al. 2024). fixed-fraction: a fixed size with
a fixed share of human records. anchor: every human record and the newest survivors. shares: a fixed size of newest
survivors, records of the last corpus and human records, in shares that each generation can have of its own; the
p(i+1) = alpha p_model + beta p(i) + gamma p(0) of Shumailov et al. 2024.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from curation.selection.apportionment import (
    Shares,
    largest_remainder,
    quotas_by_source,
    require_enough,
    rows_where,
    validate_shares,
)
from curation.selection.sampling import fill_to_total
from heirloom.errors import HeirloomError

Strata: TypeAlias = tuple[NDArray[Any], NDArray[Any]]
"""What each human record belongs to, and what each newest survivor does."""
LastCorpusRows: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Rows that the last corpus held: of human records, and of survivors of earlier generations."""
Policy = Literal["replace", "accumulate", "accumulate-subsample", "fixed-fraction", "anchor", "mixture"]
_FIXED_SIZE = ("accumulate-subsample", "fixed-fraction", "mixture")
_NOTHING = np.arange(0)


class MixSettings(BaseModel):
    """`[mix]`: what the next model learns from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy: Policy = Field("anchor", description="which records make the next corpus")
    human_fraction: float | None = Field(
        None, ge=0, le=1, description="fixed-fraction: share of records that are human"
    )
    num_records: int | None = Field(
        None,
        ge=1,
        description="fixed-fraction, accumulate-subsample, mixture: size of a corpus; default as many as the reserve",
    )
    mixture_weights: tuple[tuple[float, float, float], ...] | None = Field(
        None,
        min_length=1,
        # It came later: where it is not set, a corpus is what it was before.
        exclude_if=lambda weights: weights is None,
        description="mixture: how much of a corpus are newest survivors, records of the last corpus, and human records drawn "
        "anew, as `[[0.8, 0.1, 0.1]]`; a triple for each generation from the first, the last one for all that follow",
    )
    human_repeats: float = Field(
        1.0, ge=0, description="how often training sees a human record in a pass, on average; 2 is twice, 0 never"
    )
    synthetic_repeats: float = Field(1.0, ge=0, description="the same for a synthetic record")
    human_source_shares: Shares = Field(
        None,
        description="fixed-fraction: share of the human records from each source, as `{letters = 0.5, wiki = 0.5}`, "
        "exact to the record; `as-reserve` for the reserve's own shares; without it they are drawn from all alike",
    )

    stratify_by: Literal["source", "rarity", "attributes"] | None = Field(
        None,
        description="fixed-fraction: survivors are taken by quota: from each source, or of each rarity of a text's rarest human word, "
        "the share that the reserve has there; of each cell of the attribute grid the same; without it by dice",
    )

    @model_validator(mode="after")
    def _fits_policy(self) -> Self:
        validate_shares(self.human_source_shares, "human_source_shares")
        if self.human_source_shares is not None and self.policy != "fixed-fraction":
            raise HeirloomError(f"human_source_shares belongs to policy 'fixed-fraction', not to {self.policy!r}")
        if self.stratify_by and self.policy != "fixed-fraction":
            raise HeirloomError(f"stratify_by belongs to policy 'fixed-fraction', not to {self.policy!r}")
        if (self.human_fraction is not None) != (self.policy == "fixed-fraction"):
            raise HeirloomError("human_fraction belongs to policy 'fixed-fraction', and 'fixed-fraction' needs it")
        if self.num_records is not None and self.policy not in _FIXED_SIZE:
            raise HeirloomError(
                f"num_records belongs to the policies {' and '.join(_FIXED_SIZE)}, not to {self.policy!r}"
            )
        if (self.mixture_weights is not None) != (self.policy == "mixture"):
            raise HeirloomError("mixture_weights belongs to policy 'mixture', and 'mixture' needs it")
        for triple in self.mixture_weights or ():
            if min(triple) < 0 or abs(sum(triple) - 1) > 1e-6:
                raise HeirloomError(f"mixture_weights are three that sum to 1, none below 0; found {list(triple)}")
        return self

    def for_generation(self, generation: int) -> Self:
        """The settings of one generation, which has but one triple of shares."""
        if not self.mixture_weights:
            return self
        return self.model_copy(
            update={"mixture_weights": (self.mixture_weights[min(generation, len(self.mixture_weights)) - 1],)}
        )

    @property
    def reuses_last_corpus(self) -> bool:
        """Whether a corpus may take records from the one before."""
        return any(previous for _, previous, _ in self.mixture_weights or ())


@dataclass(frozen=True)
class MixIndices:
    """Rows to take, in increasing order."""

    human: NDArray[np.int64]
    newest: NDArray[np.int64]
    earlier: NDArray[np.int64]

    @property
    def human_fraction(self) -> float:
        """Share of the records that are human."""
        return len(self.human) / max(1, len(self.human) + len(self.newest) + len(self.earlier))


def draw_mix(
    settings: MixSettings,
    human: int,
    newest: int,
    earlier: int,
    seed: int,
    sources: Sequence[str] = (),
    strata: Strata | None = None,
    last: LastCorpusRows = (_NOTHING, _NOTHING),
) -> MixIndices:
    """Rows for the next corpus, from so many human records, newest survivors and survivors of earlier generations.

    `sources` names the source of each human record, `strata` the stratum of each human record and of each newest survivor;
    they are needed where the settings have quotas for them, and `last` where the settings keep of the last corpus.

    Raises:
        HeirloomError: the policy asks for more records than there are; nothing is repeated to make up for it.
    """
    everyone = (np.arange(human), np.arange(newest), np.arange(earlier))
    nobody = np.arange(0)
    if settings.policy == "replace":
        return MixIndices(nobody, everyone[1], nobody)
    if settings.policy == "accumulate":
        return MixIndices(*everyone)
    if settings.policy == "anchor":
        return MixIndices(everyone[0], everyone[1], nobody)
    size = settings.num_records or human
    rng = np.random.default_rng(seed)
    if settings.policy == "fixed-fraction":
        asked = round(size * (settings.human_fraction or 0))
        _enough("human records", asked, human)
        _enough("survivors", size - asked, newest)
        return MixIndices(
            _drawn_human(rng, settings.human_source_shares, asked, human, sources),
            _drawn_by(rng, strata, size - asked) if strata else _drawn(rng, newest, size - asked),
            nobody,
        )
    if settings.mixture_weights:
        return _drawn_by_shares(rng, settings.mixture_weights[0], size, human, newest, last)
    _enough("records in the pool", size, human + newest + earlier)
    taken = _drawn(rng, human + newest + earlier, size)
    return MixIndices(
        taken[taken < human],
        taken[(taken >= human) & (taken < human + newest)] - human,
        taken[taken >= human + newest] - human - newest,
    )


def _drawn_by_shares(
    rng: np.random.Generator, shares: Sequence[float], size: int, human: int, newest: int, last: LastCorpusRows
) -> MixIndices:
    """Original records first; of the last corpus what is not among them, so that no record is there twice."""
    wanted = largest_remainder(size, dict(zip(("newest", "last", "original"), shares, strict=True)))
    _enough("human records", wanted["original"], human)
    _enough("survivors", wanted["newest"], newest)
    original = _drawn(rng, human, wanted["original"])
    rest = np.setdiff1d(last[0], original)
    _enough("records of the last corpus that are not taken yet", wanted["last"], len(rest) + len(last[1]))
    kept = _drawn(rng, len(rest) + len(last[1]), wanted["last"])
    again, earlier = rest[kept[kept < len(rest)]], last[1][kept[kept >= len(rest)] - len(rest)]
    return MixIndices(
        np.sort(np.concatenate([original, again])), _drawn(rng, newest, wanted["newest"]), np.sort(earlier)
    )


def _drawn_human(
    rng: np.random.Generator, shares: Shares, asked: int, human: int, sources: Sequence[str]
) -> NDArray[np.int64]:
    if shares is None:
        return _drawn(rng, human, asked)
    drawn = [np.arange(0)]
    for source, count in quotas_by_source(asked, shares, sources).items():
        rows = rows_where(source, sources)
        _enough(f"human records of source {source}", count, len(rows))
        drawn.append(rows[_drawn(rng, len(rows), count)])
    return np.sort(np.concatenate(drawn))


def _drawn_by(rng: np.random.Generator, strata: Strata, count: int) -> NDArray[np.int64]:
    """Rows of survivors with the shares that the strata have among human records, as far as there are survivors of them."""
    names, places = np.unique(np.concatenate(strata), return_inverse=True)
    human, newest = places[: len(strata[0])], places[len(strata[0]) :]
    shares = np.bincount(human, minlength=len(names)) / len(human)
    wanted = fill_to_total(count, shares, np.bincount(newest, minlength=len(names)), int(rng.integers(1 << 31)))
    return np.sort(
        np.concatenate(
            [rng.permutation(np.flatnonzero(newest == place))[:times] for place, times in enumerate(wanted.tolist())]
        )
    )


def _enough(what: str, asked: int, there: int) -> None:
    require_enough("the mix", asked, there, what, "ask for fewer records, generate more candidates, or ingest more")


def _drawn(rng: np.random.Generator, of: int, count: int) -> NDArray[np.int64]:
    return np.sort(rng.choice(of, count, replace=False))
