"""Where the parts of the package lie: in a checkout configs/ and scripts/ stand beside leap/, installed they are in it.

All else about the package is in pyproject.toml.
"""

import sys

from setuptools import find_packages, setup

IS_EDITABLE = "editable_wheel" in sys.argv  # then a notebook may import `configs` before `leap`, as scripts do

setup(
    packages=[*find_packages(include=["leap*"]), "leap.configs", "leap.scripts", *(["configs"] if IS_EDITABLE else [])],
    package_dir={"leap.configs": "configs", "leap.scripts": "scripts"},
)
