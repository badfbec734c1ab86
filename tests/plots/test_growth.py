from leap.plots.growth import growth


def test_a_step_is_a_line_of_its_sizes_in_time_and_where_known_in_memory():
    read, opened = [(10, 1.0, 50.0), (100, 4.0, 80.0)], [(10, 0.2, None), (100, 0.3, None)]
    seconds, memory = growth({"lines": {"read": read, "opened": opened}}).axes
    lines = {line.get_label(): line.get_xydata().tolist() for line in seconds.lines}
    assert lines["read"] == [[10, 1.0], [100, 4.0]]
    assert lines["opened"] == [[10, 0.2], [100, 0.3]]
    assert [line.get_xydata().tolist() for line in memory.lines if line.get_label() == "read"] == [
        [[10, 50], [100, 80]]
    ]
    assert "opened" not in [line.get_label() for line in memory.lines]
    assert (seconds.get_xscale(), seconds.get_yscale()) == ("log", "log")


def test_dotted_lines_double_where_the_size_does():
    axes = growth({"lines": {"read": [(10, 1.0, 50.0), (1000, 90.0, 80.0)]}}).axes[0]
    dotted = [line.get_xydata() for line in axes.lines if line.get_linestyle() == ":"]
    assert dotted
    for (x0, y0), (x1, y1) in dotted:
        assert abs(y1 / y0 - x1 / x0) < 1e-9 * x1 / x0
