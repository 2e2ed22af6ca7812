import numpy as np
import pytest

from curation.forecast.closed_form import (
    human_fraction_needed,
    type_presence_after,
    type_presence_at_equilibrium,
    type_survival,
)


def _replaced(first: np.ndarray, generations: int, seed: int) -> list[np.ndarray]:
    """Counts of each type in every generation, where each is drawn from the one before."""
    rng, counts, counts_by_generation = np.random.default_rng(seed), first, [first]
    for _ in range(generations):
        counts = rng.multinomial(counts.sum(), counts / counts.sum())
        counts_by_generation.append(counts)
    return counts_by_generation


@pytest.mark.parametrize("count", [1, 10])
def test_types_survive_as_forecast(count: int) -> None:
    first = np.array([count] * 3000 + [9000])
    counts_by_generation = _replaced(first, 20, seed=count)
    for generations in (1, 2, 5, 10, 20):
        survived = (counts_by_generation[generations][:3000] > 0).mean()
        assert survived == pytest.approx(type_survival(np.array([count]), generations)[0], abs=0.03)


def test_survival_equals_the_published_table_and_exceeds_the_published_bound() -> None:
    ones = [float(type_survival(np.array([1.0]), rounds)[0]) for rounds in (1, 2, 5, 10, 20, 50)]
    assert ones == pytest.approx([0.632, 0.469, 0.268, 0.158, 0.088, 0.038], abs=0.001)
    assert all(
        survival > 1 - np.exp(-1 / rounds) - 1e-9 for survival, rounds in zip(ones, (1, 2, 5, 10, 20, 50), strict=True)
    )


@pytest.mark.parametrize(
    ("count", "share", "absent"), [(1, 0.1, 0.670), (1, 0.5, 0.419), (5, 0.05, 0.275), (5, 0.25, 0.038)]
)
def test_a_human_fraction_keeps_types_as_forecast(count: int, share: float, absent: float) -> None:
    assert 1 - type_presence_at_equilibrium(np.array([count]), share)[0] == pytest.approx(absent, abs=0.001)
    types, rng = 2000, np.random.default_rng(count)
    records = types * count
    human = np.full(types, 1 / types)
    counts, missing = rng.multinomial(records, human), []
    for turn in range(80):
        own = rng.multinomial(records - round(share * records), counts / counts.sum())
        counts = own + rng.multinomial(round(share * records), human)
        missing += [(counts == 0).mean()] if turn >= 40 else []
    assert np.mean(missing) == pytest.approx(absent, abs=0.02)


def test_human_fraction_needed_inverts_the_presence_within_a_hundredth() -> None:
    for count, presence in ((5, 0.95), (1, 0.5), (20, 0.999)):
        share = human_fraction_needed(count, presence)
        assert type_presence_at_equilibrium(np.array([count]), share)[0] == pytest.approx(presence, abs=1e-6)
        assert type_presence_at_equilibrium(np.array([count]), share - 0.01)[0] < presence
    with pytest.raises(ValueError, match=r"probability of 0\.632 at most; required is 0\.9"):
        human_fraction_needed(1, 0.9)


@pytest.mark.parametrize(("count", "share"), [(5, 0.1), (2, 0.3)])
def test_a_finite_horizon_needs_less_human_text(count: int, share: float) -> None:
    rng, types = np.random.default_rng(0), 4000
    records = types * count
    human = np.full(types, 1 / types)
    counts = rng.poisson(count, types)
    for turn in range(1, 11):
        own = rng.multinomial(records - round(share * records), counts / counts.sum())
        counts = own + rng.multinomial(round(share * records), human)
        if turn in (1, 10):
            kept = type_presence_after(np.array([count]), share, turn)[0]
            assert (counts > 0).mean() == pytest.approx(kept, abs=0.02)
    assert human_fraction_needed(5, 0.95, 10) < human_fraction_needed(5, 0.95)
    assert type_presence_after(np.array([5]), 0.2, 2000)[0] == pytest.approx(
        type_presence_at_equilibrium(np.array([5]), 0.2)[0], abs=1e-3
    )
