"""Plot the headline benchmark: loops by generation beside human text alone, and the last model of every arm."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.headline.arms import HUMAN, LOOP, PERPLEXITY, Courses, Size, best
from tasks.reporting.plots import COLORS

_COVERAGE = "rare_word_coverage"
_GREY, _INK = "#9aa5b1", "#1f2933"


def draw_loops(curves: Mapping[Size, Courses], path: Path) -> None:
    """Write a column for the loops of each size that has any: lines are means of seeds.

    Bands reach from the least to the most of them.
    """
    sizes = [size for size, courses in curves.items() if best(courses, LOOP)]
    figure, axes = _grid(2, len(sizes), (6 * len(sizes), 7.6))
    for size, above, below in zip(sizes, *axes, strict=True):
        for axis, metric, title in (
            (above, PERPLEXITY, f"Held-out perplexity at best temperature ({size.passages:,} passages)"),
            (below, _COVERAGE, "Rare-word coverage"),
        ):
            _loops(axis, curves[size], metric)
            _titled(axis, title)
        above.legend(frameon=False, fontsize=7)
        below.set_xlabel("generation", fontsize=9, color=_INK)
    figure.savefig(path)


def draw_arms(curves: Mapping[Size, Courses], path: Path) -> None:
    """Write the last model of every arm, one size below the other: dots are means of seeds.

    Whiskers reach from the least to the most of them.
    """
    found = {size: {arm: seeds for arm, seeds in courses.items() if seeds} for size, courses in curves.items()}
    rows = [len(arms) + 3 for arms in found.values()]
    figure, axes = _grid(len(found), 1, (10, 0.22 * sum(rows)), height_ratios=rows)
    for (size, arms), axis in zip(found.items(), axes[:, 0], strict=True):
        _ranking(axis, {arm: [course[-1][PERPLEXITY] for course in seeds] for arm, seeds in arms.items()})
        _titled(axis, f"Every arm's last model, {size.passages:,} passages: perplexity at best temperature")
    figure.savefig(path)


def _grid(rows: int, columns: int, inches: tuple[float, float], **more: Any) -> Any:  # noqa: ANN401
    """A figure and its axes, drawn without a screen."""
    from matplotlib.figure import Figure

    figure = Figure(inches, dpi=130, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **more)


def _loops(axis: Any, courses: Courses, metric: str) -> None:  # noqa: ANN401
    loops = [arm for arm, found in courses.items() if found and arm.startswith(LOOP)]
    for color, arm in zip(COLORS[1:], loops, strict=False):
        _course(axis, courses[arm], metric, color, arm)
        axis.set_xticks(range(len(courses[arm][0])))
    if human := best(courses, HUMAN):
        _level(axis, [course[-1][metric] for course in courses[human]], human)


def _course(axis: Any, courses: Sequence[Sequence[Mapping[str, float]]], metric: str, color: str, label: str) -> None:  # noqa: ANN401
    values = list(zip(*([turn[metric] for turn in course] for course in courses), strict=True))
    places = range(len(values))
    axis.fill_between(places, [min(v) for v in values], [max(v) for v in values], color=color, alpha=0.15, linewidth=0)
    axis.plot(
        places, [statistics.mean(v) for v in values], "-o", color=color, markersize=4, linewidth=2, label=_short(label)
    )


def _level(axis: Any, values: Sequence[float], label: str) -> None:  # noqa: ANN401
    axis.axhspan(min(values), max(values), color=_GREY, alpha=0.25, linewidth=0)
    axis.axhline(statistics.mean(values), color=_INK, linestyle=":", linewidth=1.4, label=f"best {_short(label)}")


def _ranking(axis: Any, found: Mapping[str, Sequence[float]]) -> None:  # noqa: ANN401
    """The values of every arm, best at the top."""
    from matplotlib import ticker

    order = sorted(found, key=lambda arm: -statistics.mean(found[arm]))
    for place, arm in enumerate(order):
        color = _GREY if arm.startswith(HUMAN) else COLORS[1] if arm.startswith(LOOP) else COLORS[0]
        axis.plot([min(found[arm]), max(found[arm])], [place, place], color=color, linewidth=2)
        axis.plot([statistics.mean(found[arm])], [place], "o", color=color, markersize=5)
    axis.set_ylim(-0.8, len(order) - 0.2)
    axis.set_yticks(range(len(order)), [_short(arm) for arm in order])
    if statistics.mean(found[order[0]]) > 2 * statistics.mean(found[order[-1]]):
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(ticker.LogLocator(base=10, subs=(1, 1.5, 2, 3, 5)))
        axis.xaxis.set_minor_locator(ticker.NullLocator())
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")


def _short(arm: str) -> str:
    return arm.replace("averaged 0.", "averaged .").replace(", residual dropout", " and")


def _titled(axis: Any, title: str) -> None:  # noqa: ANN401
    """Set a title and remove decoration around the axis."""
    axis.set_title(title, loc="left", fontsize=11, fontweight="bold", color=_INK)
    axis.grid(color="#e4e7eb", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(colors="#52606d", labelsize=8, length=0)
