"""LEAP: fine-tune a small vision-language model into a robot task planner, and evaluate it.

The package `configs` stands beside this one in a checkout; installed, it is `leap.configs`, so that the folder of
installed packages has no `configs`, a name that other projects use too. Both names mean it as soon as `leap` is
imported.
"""

import pkgutil
import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

try:
    __version__ = version("leap-planner")
except PackageNotFoundError:  # on the path, but not installed
    __version__ = "0"


def _named_configs() -> ModuleType:
    home = Path(__file__).resolve().parent
    folder = str(next(path for path in (home / "configs", home.parent / "configs") if path.is_dir()))
    package = sys.modules.get("configs")
    if folder not in getattr(package, "__path__", []):
        places = pkgutil.extend_path([folder], "configs")  # a `configs` of another project keeps its other modules
        spec = spec_from_file_location("configs", f"{folder}/__init__.py", submodule_search_locations=places)
        assert spec is not None, "it names a file of Python"
        assert spec.loader is not None, "it names a file of Python"
        package = sys.modules["configs"] = module_from_spec(spec)
        spec.loader.exec_module(package)
    assert package is not None, "it has a path"
    sys.modules["leap.configs"] = package
    for name in ("commands", "errors", "flags", "config"):  # one module, one class of errors, by either name
        sys.modules[f"leap.configs.{name}"] = import_module(f"configs.{name}")
    return package


configs = _named_configs()
