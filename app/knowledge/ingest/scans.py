"""OCR of scanned PDF pages (RapidOCR, Chinese and English), where `requirements-ocr.txt` is installed."""

import time
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.util import find_spec
from typing import Any

from app.knowledge.ingest.documents import clean

LONGEST_SIDE = 1800  # pixels of a page's picture: about 150 dots per inch
SECONDS = 120.0  # for all pages of a file: whoever waits for the converter waits for this


@cache
def reader() -> Any | None:
    """The loaded models, which lie in the package; None where it is not installed.

    On one thread: a process that is forked off this one keeps no others.
    """
    if find_spec("rapidocr") is None:
        return None
    import numpy
    from rapidocr import RapidOCR

    threads = {f"EngineConfig.onnxruntime.{kind}_op_num_threads": 1 for kind in ("intra", "inter")}
    ocr = RapidOCR(params={"Global.log_level": "critical", **threads})
    blank = numpy.full((64, 64, 3), 255, numpy.uint8)
    ocr(blank)
    ocr(blank, use_det=False)  # models load when first used, and here files can still be opened
    return ocr


def read_scans(pages: Iterable[Any]) -> Iterator[str]:
    """The text of each page's picture, until the time is up."""
    ocr, end = reader(), time.monotonic() + SECONDS
    for page in pages:
        if ocr is None or time.monotonic() > end:
            return
        picture = page.render(scale=LONGEST_SIDE / max(page.get_size())).to_numpy()
        found = ocr(picture[:, :, :3], use_det=True)
        yield clean(found.to_markdown()) if found.txts else ""
