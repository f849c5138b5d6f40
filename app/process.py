"""Process set-up before torch is imported: logging, environment defaults, packages of a Hugging Face Space."""

import gc
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from app.allocator import bound_arenas
from app.paths import ROOT

QUIET = ("httpx", "httpcore", "urllib3", "matplotlib", "asyncio", "multipart", "ContinuousBatchingLogger")
DEFAULTS = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    # Gradio reckons a table of its last events anew after each one, for a page that is closed here.
    "GRADIO_ANALYTICS_CACHE_FREQUENCY": "1000000000",
    "GRADIO_ANALYTICS_MAX_EVENTS": "1",
    # Gradio asks for it at every event, and matplotlib then imports all of itself to choose one.
    "MPLBACKEND": "agg",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
    # Worker threads spin this often before they sleep. OpenMP's own default spins so long that any other busy
    # program on the machine, a browser say, slows a small model twentyfold; see docs/decisions.md.
    "GOMP_SPINCOUNT": "20000",
}


def prepare_process(log_level: str, log_format: str = "text") -> None:
    """Logging to standard error; libraries' defaults, where the environment has not set them."""
    bound_arenas()
    handler = logging.StreamHandler()
    handler.setFormatter(log_formatter(log_format))
    logging.basicConfig(level=log_level.upper(), handlers=[handler])
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """For imports: a quarter of their time goes into looking for garbage among modules, which stay.

    Whatever is there at the end is not looked through again: a server's later collections pause it the less.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def missing_packages(requirements: Path) -> list[str]:
    """Lines of a requirements file whose package is not installed in that version."""
    lines = (line.partition("#")[0].strip() for line in requirements.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not _is_installed(*line.split("=="))]


def complete_a_space() -> None:
    """A Hugging Face Space installs requirements.txt only; what must come without its dependencies comes here."""
    requirements = ROOT / "requirements-nodeps.txt"
    if "SPACE_ID" in os.environ and missing_packages(requirements):
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "-r", str(requirements)]
        subprocess.run(command, check=True)
    if "SPACES_ZERO_GPU" in os.environ:
        import spaces  # noqa: F401  it stands in for CUDA, so it comes before torch is used


def _is_installed(name: str, wanted: str) -> bool:
    try:
        return version(name) == wanted
    except PackageNotFoundError:
        return False


def log_formatter(log_format: str) -> logging.Formatter:
    """Lines for people, or one JSON object a line with a record's fields."""
    if log_format == "text":
        return logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    from pythonjsonlogger.json import JsonFormatter

    names = {"asctime": "time", "levelname": "level", "name": "logger"}
    return JsonFormatter("{asctime}{levelname}{name}{message}", style="{", rename_fields=names, json_ensure_ascii=False)
