"""What a script gets that imports `configs`: each folder of scripts has a link to this file, which Python finds first.

`configs` itself is named by leap/__init__.py. A Python without LEAP or its packages gets one line, and exit status 2.
"""

import os
import shlex
import sys

# What is imported wherever something is done; extras such as gradio have errors of their own.
_PACKAGES = ("leap", "matplotlib", "numpy", "PIL", "scipy", "torch", "tqdm", "transformers", "yaml")


def _say_what_is_missing(kind, error, trace):
    """One line, and exit status 2, for a package that is not installed; a traceback for all else."""
    name = getattr(error, "name", None)
    if not isinstance(error, ModuleNotFoundError) or name not in _PACKAGES:
        sys.__excepthook__(kind, error, trace)
        return
    print(f"error: {sys.executable} has no package {name}; run: {_remedy()}", file=sys.stderr)
    sys.exit(2)


def _remedy():
    """The command that gives this Python, or the shell, LEAP and its packages."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    if os.path.exists(os.path.join(root, "__init__.py")):  # no checkout, but the installed package
        return "pip install leap-planner"
    environment = os.path.join(root, ".venv")
    activate = os.path.join(environment, "bin", "activate")
    if os.path.exists(activate) and os.path.realpath(sys.prefix) != os.path.realpath(environment):
        return "source " + shlex.quote(os.path.relpath(activate))
    return "bash " + shlex.quote(os.path.relpath(os.path.join(root, "scripts", "utils", "setup-env.sh")))


sys.excepthook = _say_what_is_missing

import leap  # noqa: E402, F401
