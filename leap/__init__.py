from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("leap-planner")
except PackageNotFoundError:  # on the path, but not installed
    __version__ = "0"
