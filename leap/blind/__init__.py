"""Blind review, first half: the same rows put to several models, and what they wrote."""
