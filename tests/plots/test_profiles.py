from leap.plots.profiles import representatives
from tests.plots.figures import results_of


def test_of_many_runs_a_radar_shows_the_base_and_the_best():
    models = {f"run{i}-checkpoint-{s}": results_of(i + s) for i in range(20) for s in (1, 2)}
    models = {"baseline": results_of(9)} | models
    assert representatives(models, 3) == ["baseline", "run18-checkpoint-2", "run19-checkpoint-2"]
