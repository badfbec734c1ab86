"""How time and memory grow with size: a line a step, on scales where n and n log n are nearly straight lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from leap.plots.style import FAINT, clean, finish, plt, styles_of

_HEIGHT, _WIDTH = 3.6, 4.2  # inches of a panel

# {step: [(size, seconds, megabytes or None)]}, in order of size
Steps = Mapping[str, Sequence[tuple[int, float, float | None]]]


def growth(parts: Mapping[str, Steps]) -> Figure:
    """A column a part, named by what is counted: seconds above, memory below; dotted lines grow as their size does."""
    figure, panels = plt.subplots(
        2, len(parts), figsize=(_WIDTH * len(parts), 2 * _HEIGHT), layout="constrained", squeeze=False, sharex="col"
    )
    for column, (part, steps) in enumerate(parts.items()):
        styles = styles_of(steps)
        for row, (label, value) in enumerate((("seconds", 1), ("peak memory, MB", 2))):
            axes = panels[row][column]
            for step, points in steps.items():
                drawn = [(point[0], point[value]) for point in points if point[value]]
                if drawn:
                    style = styles[step]
                    axes.plot(
                        *zip(*drawn, strict=True),
                        color=style.color,
                        marker=style.marker,
                        linestyle=style.line,
                        markersize=4,
                        label=step,
                    )
            axes.set(xscale="log", yscale="log")
            _draw_linear_growth(axes)
            clean(axes, "both")
            if column == 0:
                axes.set_ylabel(label)
        panels[0][column].legend(frameon=False, fontsize=7, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
        panels[1][column].set_xlabel(part)
    return finish(figure, "Time and memory of each step", notes=["Grey: as the size. Both scales are logarithmic."])


def _draw_linear_growth(axes: plt.Axes) -> None:
    """Faint lines of what doubles with its size, a factor of ten apart, behind the data."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    start = low * left / right
    while start < high:
        axes.plot([left, right], [start, start * right / left], color=FAINT, linewidth=0.5, linestyle=":", zorder=0)
        start *= 10
    axes.set_xlim(left, right)
    axes.set_ylim(low, high)
