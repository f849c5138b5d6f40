"""The packaged model, converted once a test run."""

from pathlib import Path

import pytest

from app.models import catalog, sources


@pytest.fixture(scope="session")
def packaged_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sources.fetch(catalog.find("smollm2-135m"), tmp_path_factory.mktemp("models"), lambda *_: None)
