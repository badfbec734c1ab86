"""Reading the tables that a sweep prints."""


def cells_of(table, preset):
    """The cells of a preset's lines in each of the three tables."""
    lines = [line for line in table.splitlines() if line.startswith(f"| {preset} ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
