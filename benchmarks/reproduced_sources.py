"""Where the error comes from: finite samples, limited capacity, imperfect optimisation; in a toy."""

from collections.abc import Iterator, Sequence

import numpy as np

from benchmarks.figures import Figure, short
from curation.theory.sources import Switches, divergences, one_hump, two_humps


def sources(*, samples: int = 500, rounds: int = 20, runs: int = 100) -> Iterator[Figure]:
    """Shumailov et al. 2024, Nature 631:755: finite samples, limited capacity, imperfect optimisation."""
    none = divergences(two_humps(), Switches(), rounds, 0, 1)
    yield Figure(
        f"none of the three: distance after {rounds} rounds", short(none[-1]), "", "0: no drift", none[-1] < 1e-9
    )
    chance = divergences(two_humps(), Switches(samples=samples), rounds, 0, runs)
    yield Figure(
        f"{samples} samples: distance in round 1 / 10 / {rounds}",
        _told(chance, rounds),
        "",
        "drifts in every round",
        bool((np.diff(chance) > 0).all()),
    )
    more = divergences(two_humps(), Switches(samples=100 * samples), rounds, 0, runs)
    yield Figure(
        f"{100 * samples} samples: distance after {rounds} rounds",
        short(more[-1]),
        "",
        "vanishes with the samples",
        more[-1] < chance[-1] / 5,
    )
    narrow = divergences(two_humps(), Switches(one_gaussian=True), rounds, 0, 1)
    yield Figure("two modes by one Gaussian: distance in round 1", short(narrow[0]), "", "> 0", narrow[0] > 0.1)
    yield Figure(
        f"the same: change from round 1 to {rounds}",
        short(abs(narrow[-1] - narrow[0])),
        "",
        "0: bites in round 1 alone",
        abs(narrow[-1] - narrow[0]) < 1e-6,
    )
    fits = divergences(one_hump(), Switches(one_gaussian=True), rounds, 0, 1)
    yield Figure("one mode by one Gaussian: distance", short(fits[-1]), "", "0", fits[-1] < 1e-6)
    stopped = divergences(two_humps(), Switches(steps=100), rounds, 0, 1)
    yield Figure(
        f"descent stopped after 100 steps: distance in round 1 / 10 / {rounds}",
        _told(stopped, rounds),
        "",
        "adds to itself in every round",
        bool((np.diff(stopped) > 0).all()),
    )
    longer = divergences(two_humps(), Switches(steps=400), rounds, 0, 1)
    yield Figure(
        f"the same after 400 steps: distance in round {rounds}", short(longer[-1]), "", "less", longer[-1] < stopped[-1]
    )


def _told(distances: Sequence[float], rounds: int) -> str:
    return " / ".join(f"{distances[one - 1]:.3f}" for one in (1, 10, rounds))
