"""A plan for a picture of your own: on the command line, in Python, served, or on a small page of this machine."""

from leap.planning.photos import PhotoPlan, PhotoPlanner, plan

__all__ = ["PhotoPlan", "PhotoPlanner", "plan"]
