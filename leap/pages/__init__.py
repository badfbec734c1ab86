"""One offline HTML file; the report and the rating sheet stand on it."""
