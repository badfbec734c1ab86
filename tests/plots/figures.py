"""Models to draw, and what is written in their figures."""

from matplotlib.figure import Figure

from configs.config import DIMENSIONS
from leap.plans.scoring import GROUNDED_METRICS
from leap.plots.comparison import TERMS
from leap.statistics import Estimate
from leap.vlabench.tables import Overall


def results_of(value: float, dimensions=DIMENSIONS, terms=TERMS["grounded"]) -> Overall:
    """A model with these metrics in all its dimensions: value, value - 1, ...; the total is their weighted sum."""
    metrics = {name: max(value - i, 0.0) for i, name in enumerate(GROUNDED_METRICS)}
    metrics["total_score"] = sum(weight * metrics[name] for name, weight in terms)
    found = {name: Estimate(mean, mean - 1, mean + 2) if mean else Estimate(0, 0, 0) for name, mean in metrics.items()}
    return Overall(found, found, dict.fromkeys(dimensions, found), 100, counts=dict.fromkeys(dimensions, 17))


def forty() -> dict[str, Overall]:
    """The base, a control and 38 checkpoints: two runs, one of them also asked with one shot."""
    models = {"baseline": results_of(20), "constant": results_of(5)}
    models |= {f"checkpoint-{step}": results_of(20 + step / 100) for step in range(100, 1900, 100)}
    models |= {f"checkpoint-{step}_1shot": results_of(25 + step / 100) for step in range(100, 1100, 100)}
    models |= {f"lora_light-checkpoint-{step}": results_of(15 + step / 100) for step in range(100, 1100, 100)}
    return models


def words(figure: Figure) -> list[str]:
    """All texts inside the axes."""
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()] if figure.legends else []


def notes(figure: Figure) -> str:
    return " ".join(figure.legends[0].get_title().get_text().split()) if figure.legends else ""


def rows(figure: Figure) -> list[str]:
    return [label.get_text() for label in figure.axes[0].get_yticklabels()]
