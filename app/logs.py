"""Logging to standard error, and libraries that talk too much made quiet."""

import logging
import os
import warnings

QUIET = ("httpx", "httpcore", "urllib3", "matplotlib", "asyncio", "multipart")


def set_up_logs(level: str) -> None:
    """Called once, by whoever owns the process."""
    logging.basicConfig(level=level.upper(), format="%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
