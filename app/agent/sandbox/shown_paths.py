"""Remove paths of the server from text that a visitor sees."""

import os
import re
import sys
import sysconfig
from functools import cache
from pathlib import Path

from app.paths import ROOT


def without_server_paths(text: str, folder: Path) -> str:
    """The session's own `folder` becomes `.`, which code may use again; libraries lose the folders they lie in."""
    if "/" not in text:
        return text
    for place, shown in ((folder, "."), (folder.parent, "..")):
        for name in _names(place):
            text = text.replace(name, shown)
    data = "|".join(map(re.escape, _names(folder.parent.parent)))  # a short name, such as /data, may be part of another
    text = re.sub(rf"(?<![\w.-])(?:{data})(?![\w-])", "../..", text)
    return without_installation(text)


def without_installation(text: str) -> str:
    """The same where there is no session: only the folders of this program and its libraries go."""
    return _installation().sub("python", _libraries().sub("", text))


def _names(place: Path) -> set[str]:
    return {str(place), os.path.realpath(place)}


@cache
def _libraries() -> re.Pattern[str]:
    found = {*sys.path, *(path for name, path in sysconfig.get_paths().items() if name.endswith("lib"))}
    found |= {os.path.dirname(os.__file__), f"{os.path.dirname(os.__file__)}/lib-dynload"}  # noqa: PTH120
    return _any_of({f"{place.rstrip('/')}/" for place in found if len(place) > 1})


@cache
def _installation() -> re.Pattern[str]:
    return _any_of({sys.prefix, sys.base_prefix, str(ROOT)})


def _any_of(places: set[str]) -> re.Pattern[str]:
    every = places | {os.path.realpath(place) + ("/" if place.endswith("/") else "") for place in places}
    return re.compile("(?:" + "|".join(re.escape(name) for name in sorted(every, key=len, reverse=True)) + ")")
