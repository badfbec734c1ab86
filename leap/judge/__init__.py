"""Blind review, second half: judges, their verdicts, the summary, the rating sheet for people."""
