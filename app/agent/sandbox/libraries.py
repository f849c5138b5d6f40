"""Which third-party packages sandboxed code may import, and a finder that hides all others."""

import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

# What is told to the visitor and to the model, where it is installed.
OFFERED = (
    "numpy",
    "scipy",
    "sympy",
    "pandas",
    "matplotlib",
    "networkx",
    "openpyxl",
    "xlsxwriter",
    "pyarrow",
    "lxml",
    "bs4",
    "PIL",
    "tabulate",
)
# What those need.
_SUPPORTING = (
    "contourpy",
    "cycler",
    "dateutil",
    "et_xmlfile",
    "fontTools",
    "jinja2",
    "kiwisolver",
    "markupsafe",
    "mpl_toolkits",
    "mpmath",
    "packaging",
    "pylab",
    "pyparsing",
    "pytz",
    "six",
    "soupsieve",
    "typing_extensions",
    "tzdata",
)
_OWN = "app"  # the sandbox itself, loaded before a child is locked
_ALLOWED = frozenset((*OFFERED, *_SUPPORTING, _OWN, *sys.stdlib_module_names))


def installed() -> tuple[str, ...]:
    """The offered packages that are there."""
    return tuple(name for name in OFFERED if importlib.util.find_spec(name) is not None)


class AllowedPackages(PathFinder):
    """Stands in for PathFinder. What may not be read does not exist, so libraries do without their optional parts."""

    @classmethod
    def find_spec(
        cls, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name.partition(".")[0] not in _ALLOWED:
            return None
        return super().find_spec(name, path, target)


class NothingMore(PathFinder):
    """The same for children that can open no library: only what is loaded already exists."""

    @classmethod
    def find_spec(cls, *_request: object) -> None:
        return None


def allow_only(finder: type[PathFinder]) -> None:
    """Let `finder` decide from now on, in place of PathFinder or the one before."""
    kept = [other for other in sys.meta_path if other not in (PathFinder, AllowedPackages)]
    sys.meta_path[:] = [*kept, finder]


def folders(site: str) -> list[str]:
    """Where below `site` the allowed packages lie."""
    places = []
    for name in (*OFFERED, *_SUPPORTING):
        places += [f"{site}/{name}", f"{site}/{name}.py", f"{site}/{name}.libs"]
    return [*places, f"{site}/pillow.libs"]
