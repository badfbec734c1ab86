"""Figures as PNG and SVG, readable in print and by the colour-blind; what is missing is marked, never drawn as 0."""
