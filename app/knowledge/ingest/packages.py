"""Parts of office files and e-books, which are ZIP packages: change some, and parse their XML."""

import io
import zipfile
from collections.abc import Callable
from xml.etree.ElementTree import Element


def with_parts(raw: bytes, change: Callable[[str, bytes], bytes]) -> bytes:
    """The package with its parts as `change(name, content)` gives them; itself where none is changed."""
    with zipfile.ZipFile(io.BytesIO(raw)) as package:
        before = {name: package.read(name) for name in package.namelist()}
    after = {name: change(name, content) for name, content in before.items()}
    if after == before:
        return raw
    copied = io.BytesIO()
    with zipfile.ZipFile(copied, "w", zipfile.ZIP_DEFLATED) as copy:
        for name, content in after.items():
            copy.writestr(name, content)
    return copied.getvalue()


def parsed(content: bytes) -> Element:
    """XML without entities of its own, which could grow without end."""
    from defusedxml.ElementTree import fromstring

    root: Element = fromstring(content)
    return root
