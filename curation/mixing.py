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

from curation.selection.apportionment import Shares, checked, enough, quotas, rows_of, source_quotas
from curation.selection.sampling import filled

Strata: TypeAlias = tuple[NDArray[Any], NDArray[Any]]
"""What each human record belongs to, and what each newest survivor does."""
Last: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Rows that the last corpus held: of human records, and of survivors of earlier generations."""
Policy = Literal["replace", "accumulate", "accumulate-subsample", "fixed-fraction", "anchor", "shares"]
_FIXED_SIZE = ("accumulate-subsample", "fixed-fraction", "shares")
_NOTHING = np.arange(0)


class MixSettings(BaseModel):
    """`[mix]`: what the next model learns from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy: Policy = Field("anchor", description="which records make the next corpus")
    human_fraction: float | None = Field(
        None, ge=0, le=1, description="fixed-fraction: share of records that are human"
    )
    records: int | None = Field(
        None,
        ge=1,
        description="fixed-fraction, accumulate-subsample, shares: size of a corpus; default as many as the reserve",
    )
    shares: tuple[tuple[float, float, float], ...] | None = Field(
        None,
        min_length=1,
        # It came later: where it is not set, a corpus is what it was before.
        exclude_if=lambda shares: shares is None,
        description="shares: how much of a corpus are newest survivors, records of the last corpus, and human records drawn "
        "anew, as `[[0.8, 0.1, 0.1]]`; a triple for each generation from the first, the last one for all that follow",
    )
    human_weight: float = Field(
        1.0, ge=0, description="how often training sees a human record in a pass, on average; 2 is twice, 0 never"
    )
    synthetic_weight: float = Field(1.0, ge=0, description="the same for a synthetic record")
    human_sources: Shares = Field(
        None,
        description="fixed-fraction: share of the human records from each source, as `{letters = 0.5, wiki = 0.5}`, "
        "exact to the record; `as-reserve` for the reserve's own shares; without it they are drawn from all alike",
    )

    strata: Literal["source", "rarity", "attributes"] | None = Field(
        None,
        description="fixed-fraction: survivors are taken by quota: from each source, or of each rarity of a text's rarest human word, "
        "the share that the reserve has there; of each cell of the attribute grid the same; without it by dice",
    )

    @model_validator(mode="after")
    def _fits_policy(self) -> Self:
        checked(self.human_sources, "human_sources")
        if self.human_sources is not None and self.policy != "fixed-fraction":
            raise ValueError(f"human_sources belongs to policy 'fixed-fraction', not to {self.policy!r}")
        if self.strata and self.policy != "fixed-fraction":
            raise ValueError(f"strata belongs to policy 'fixed-fraction', not to {self.policy!r}")
        if (self.human_fraction is not None) != (self.policy == "fixed-fraction"):
            raise ValueError("human_fraction belongs to policy 'fixed-fraction', and 'fixed-fraction' needs it")
        if self.records is not None and self.policy not in _FIXED_SIZE:
            raise ValueError(f"records belongs to the policies {' and '.join(_FIXED_SIZE)}, not to {self.policy!r}")
        if (self.shares is not None) != (self.policy == "shares"):
            raise ValueError("shares belongs to policy 'shares', and 'shares' needs it")
        for triple in self.shares or ():
            if min(triple) < 0 or abs(sum(triple) - 1) > 1e-6:
                raise ValueError(f"shares are three that sum to 1, none below 0; found {list(triple)}")
        return self

    def at(self, generation: int) -> Self:
        """The settings of one generation, which has but one triple of shares."""
        if not self.shares:
            return self
        return self.model_copy(update={"shares": (self.shares[min(generation, len(self.shares)) - 1],)})

    @property
    def keeps_last(self) -> bool:
        """Whether a corpus may take records from the one before."""
        return any(previous for _, previous, _ in self.shares or ())


@dataclass(frozen=True)
class Mix:
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
    last: Last = (_NOTHING, _NOTHING),
) -> Mix:
    """Rows for the next corpus, from so many human records, newest survivors and survivors of earlier generations.

    `sources` names the source of each human record, `strata` the stratum of each human record and of each newest survivor;
    they are needed where the settings have quotas for them, and `last` where the settings keep of the last corpus.

    Raises:
        ValueError: the policy asks for more records than there are; nothing is repeated to make up for it.
    """
    everyone = (np.arange(human), np.arange(newest), np.arange(earlier))
    nobody = np.arange(0)
    if settings.policy == "replace":
        return Mix(nobody, everyone[1], nobody)
    if settings.policy == "accumulate":
        return Mix(*everyone)
    if settings.policy == "anchor":
        return Mix(everyone[0], everyone[1], nobody)
    size = settings.records or human
    dice = np.random.default_rng(seed)
    if settings.policy == "fixed-fraction":
        asked = round(size * (settings.human_fraction or 0))
        _enough("human records", asked, human)
        _enough("survivors", size - asked, newest)
        return Mix(
            _drawn_human(dice, settings.human_sources, asked, human, sources),
            _drawn_by(dice, strata, size - asked) if strata else _drawn(dice, newest, size - asked),
            nobody,
        )
    if settings.shares:
        return _drawn_by_shares(dice, settings.shares[0], size, human, newest, last)
    _enough("records in the pool", size, human + newest + earlier)
    taken = _drawn(dice, human + newest + earlier, size)
    return Mix(
        taken[taken < human],
        taken[(taken >= human) & (taken < human + newest)] - human,
        taken[taken >= human + newest] - human - newest,
    )


def _drawn_by_shares(
    dice: np.random.Generator, shares: Sequence[float], size: int, human: int, newest: int, last: Last
) -> Mix:
    """Original records first; of the last corpus what is not among them, so that no record is there twice."""
    wanted = quotas(size, dict(zip(("newest", "last", "original"), shares, strict=True)))
    _enough("human records", wanted["original"], human)
    _enough("survivors", wanted["newest"], newest)
    original = _drawn(dice, human, wanted["original"])
    rest = np.setdiff1d(last[0], original)
    _enough("records of the last corpus that are not taken yet", wanted["last"], len(rest) + len(last[1]))
    kept = _drawn(dice, len(rest) + len(last[1]), wanted["last"])
    again, earlier = rest[kept[kept < len(rest)]], last[1][kept[kept >= len(rest)] - len(rest)]
    return Mix(np.sort(np.concatenate([original, again])), _drawn(dice, newest, wanted["newest"]), np.sort(earlier))


def _drawn_human(
    dice: np.random.Generator, shares: Shares, asked: int, human: int, sources: Sequence[str]
) -> NDArray[np.int64]:
    if shares is None:
        return _drawn(dice, human, asked)
    drawn = [np.arange(0)]
    for source, count in source_quotas(asked, shares, sources).items():
        rows = rows_of(source, sources)
        _enough(f"human records of source {source}", count, len(rows))
        drawn.append(rows[_drawn(dice, len(rows), count)])
    return np.sort(np.concatenate(drawn))


def _drawn_by(dice: np.random.Generator, strata: Strata, count: int) -> NDArray[np.int64]:
    """Rows of survivors with the shares that the strata have among human records, as far as there are survivors of them."""
    names, places = np.unique(np.concatenate(strata), return_inverse=True)
    human, newest = places[: len(strata[0])], places[len(strata[0]) :]
    shares = np.bincount(human, minlength=len(names)) / len(human)
    wanted = filled(count, shares, np.bincount(newest, minlength=len(names)), int(dice.integers(1 << 31)))
    return np.sort(
        np.concatenate(
            [dice.permutation(np.flatnonzero(newest == place))[:times] for place, times in enumerate(wanted.tolist())]
        )
    )


def _enough(what: str, asked: int, there: int) -> None:
    enough("the mix", asked, there, what, "ask for fewer records, generate more candidates, or ingest more")


def _drawn(dice: np.random.Generator, of: int, count: int) -> NDArray[np.int64]:
    return np.sort(dice.choice(of, count, replace=False))
