"""Tools for a folder of planning rows: clean, split, compare and describe it."""
