"""Figures as PNG and SVG, readable in print and by the colour-blind; what is missing is marked, never drawn as 0."""

from leap.plots.comparison import improvement, metrics_overall, stacked_terms, totals_by_dimension
from leap.plots.curves import checkpoint_curves
from leap.plots.data import data_description
from leap.plots.profiles import heat_map, radar
from leap.plots.review import review_figures
from leap.plots.style import Published, plt, save
from leap.plots.training import ablation, loss_curve

__all__ = [
    "Published",
    "ablation",
    "checkpoint_curves",
    "data_description",
    "heat_map",
    "improvement",
    "loss_curve",
    "metrics_overall",
    "plt",
    "radar",
    "review_figures",
    "save",
    "stacked_terms",
    "totals_by_dimension",
]
