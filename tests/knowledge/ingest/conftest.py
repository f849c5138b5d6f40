"""Files converted as the server does it: in a locked child of a worker."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.knowledge.ingest.conversion_worker import Converter
from app.knowledge.ingest.documents import Text

Read = Callable[[str, bytes], Text]


@pytest.fixture(scope="session")
def converter() -> Iterator[Converter]:
    converter = Converter()
    yield converter
    converter.close()


@pytest.fixture
def read(converter: Converter, tmp_path: Path) -> Read:
    """`read(name, raw)` is the file's text."""

    def read(name: str, raw: bytes) -> Text:
        (tmp_path / "file").write_bytes(raw)
        return converter(tmp_path / "file", name)

    return read
