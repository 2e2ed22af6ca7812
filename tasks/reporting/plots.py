"""Curves by generation, one line a run, in the colours that the whole project uses."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

COLORS = ("#c2410c", "#1d4ed8", "#047857", "#7c3aed", "#b45309", "#0e7490", "#be185d", "#4d7c0f")
_PANELS = (
    ("perplexity", "Held-out perplexity", "lower is better; dashed: recalibrated", True),
    ("rare_word_coverage", "Rare human words still said", "share; higher is better", False),
    ("vocabulary_size", "Distinct words said", "in a sample of one size", True),
    ("repetition", "Repetition", "share of four-word runs said before; lower is better", False),
)


def plot_curves(points: Sequence[tuple[str, int, str, float]], path: Path) -> None:
    """Four panels over (run, generation, metric, value); a run of one generation is drawn as a level line."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    runs = list(dict.fromkeys(point[0] for point in points))
    colours = dict(zip(runs, COLORS * (1 + len(runs) // len(COLORS)), strict=False))
    values: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for run, generation, metric, value in points:
        values[metric][run][generation] = value
    last = max(point[1] for point in points)
    figure, axes = plt.subplots(2, 2, figsize=(11, 7.2), dpi=130, constrained_layout=True)
    for axis, (metric, title, note, logarithmic) in zip(axes.flat, _PANELS, strict=True):
        for run in runs:
            _line(axis, values[metric][run], colours[run], last, "-", run)
            if metric == "perplexity":
                _line(axis, values["perplexity_at_best_temperature"][run], colours[run], last, "--", "")
        axis.set_title(title, loc="left", fontsize=12, fontweight="bold", color="#1f2933")
        axis.text(0, 1.0, note, transform=axis.transAxes, fontsize=8.5, color="#616e7c", va="bottom")
        axis.title.set_position((0, 1.06))
        axis.set_title(axis.get_title(loc="left"), loc="left", fontsize=12, fontweight="bold", pad=18)
        if logarithmic:
            axis.set_yscale("log")
            _plain_numbers(axis.yaxis)
        axis.set_xticks(range(last + 1))
        axis.grid(axis="y", color="#e4e7eb", linewidth=0.8)
        axis.set_axisbelow(True)
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.tick_params(colors="#52606d", labelsize=9, length=0)
    for axis in axes[1]:
        axis.set_xlabel("generation", color="#52606d", fontsize=9)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=len(labels), frameon=False, fontsize=10)
    figure.savefig(path)
    plt.close(figure)


def _plain_numbers(axis: object) -> None:
    """10, 20, 50 on a logarithmic axis, not powers."""
    from matplotlib import ticker
    from matplotlib.axis import Axis

    assert isinstance(axis, Axis)
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axis.set_major_locator(ticker.LogLocator(base=10, subs=(1, 2, 5)))
    axis.set_minor_locator(ticker.NullLocator())


def _line(axis: object, values: dict[int, float], colour: str, last: int, style: str, label: str) -> None:
    from matplotlib.axes import Axes

    assert isinstance(axis, Axes)
    if len(values) == 1 and last:
        axis.axhline(
            next(iter(values.values())),
            color=colour,
            linestyle=":" if style == "-" else style,
            linewidth=1.4,
            label=label or None,
            alpha=1 if style == "-" else 0.4,
        )
        return
    generations = sorted(values)
    marker = "o" if style == "-" else None
    axis.plot(
        generations,
        [values[one] for one in generations],
        style,
        color=colour,
        marker=marker,
        markersize=4,
        linewidth=2 if style == "-" else 1.2,
        label=label or None,
    )


_FORECAST = (
    ("type_coverage", "Human words still said"),
    ("rare_word_coverage", "Rare human words still said"),
    ("entropy", "Entropy of words, in nats"),
)


def plot_forecast(
    told: Sequence[tuple[str, int, str, float]], measured: Sequence[tuple[str, int, str, float]], path: Path
) -> None:
    """Three panels over (run, generation, metric, value): forecast dashed, what was measured as a line with points."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    runs = list(dict.fromkeys(point[0] for point in told))
    colours = dict(zip(runs, COLORS * (1 + len(runs) // len(COLORS)), strict=False))
    last = max(point[1] for point in told)
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.8), dpi=130, constrained_layout=True)
    for axis, (metric, title) in zip(axes, _FORECAST, strict=True):
        for points, style in ((told, "--"), (measured, "-")):
            for run in runs:
                values = {place: value for name, place, what, value in points if (name, what) == (run, metric)}
                if values:
                    label = f"{run}, {'forecast' if style == '--' else 'measured'}"
                    _line(axis, values, colours[run], last, style, label)
        axis.set_title(title, loc="left", fontsize=11, fontweight="bold", color="#1f2933")
        axis.set_xticks(range(last + 1))
        axis.set_ylim(bottom=0)
        axis.grid(axis="y", color="#e4e7eb", linewidth=0.8)
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.tick_params(colors="#52606d", labelsize=9, length=0)
        axis.set_xlabel("generation", color="#52606d", fontsize=9)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=len(labels), frameon=False, fontsize=9)
    figure.savefig(path)
    plt.close(figure)


_SHADES = "viridis"
_BINS = 40


def plot_perplexity_histogram(points: Sequence[tuple[str, int, float]], path: Path) -> None:
    """One panel a run over (run, generation, perplexity of one text): a histogram of each generation, earlier ones darker.

    Generation 0 is human text, and dashed. The picture of Shumailov et al. 2024; all panels share their bins, which are even
    in the logarithm.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import numpy as np
    from matplotlib import pyplot as plt

    runs = list(dict.fromkeys(point[0] for point in points))
    values = np.array([point[2] for point in points])
    edges = np.geomspace(max(1.0, float(values.min())), float(np.quantile(values, 0.999)) * 1.01 + 1e-9, _BINS + 1)
    last = max(point[1] for point in points)
    figure, axes = plt.subplots(
        1, len(runs), figsize=(4.2 * len(runs) + 1.5, 3.8), dpi=130, sharey=True, squeeze=False, constrained_layout=True
    )
    shades = mpl.colormaps[_SHADES]
    for axis, run in zip(axes[0], runs, strict=True):
        for generation in sorted({point[1] for point in points if point[0] == run}):
            mine = [point[2] for point in points if point[:2] == (run, generation)]
            shares = np.histogram(np.clip(mine, edges[0], edges[-1]), edges)[0] / len(mine)
            colour = shades(0.9 * (generation - 1) / max(1, last - 1)) if generation else "#616e7c"
            label = f"generation {generation}" if generation else "human, held out"
            axis.stairs(
                shares,
                edges,
                color=colour,
                label=label if axis is axes[0, 0] else None,
                linestyle="-" if generation else "--",
                linewidth=1.6,
            )
        axis.set_xscale("log")
        _plain_numbers(axis.xaxis)
        axis.set_title(run, loc="left", fontsize=11, fontweight="bold", color="#1f2933")
        axis.set_xlabel("perplexity of a text under generation 0's model", color="#52606d", fontsize=9)
        axis.grid(axis="y", color="#e4e7eb", linewidth=0.8)
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.tick_params(colors="#52606d", labelsize=9, length=0)
    axes[0, 0].set_ylabel("share of what was said", color="#52606d", fontsize=9)
    figure.legend(loc="outside right center", frameon=False, fontsize=9)
    figure.savefig(path)
    plt.close(figure)
