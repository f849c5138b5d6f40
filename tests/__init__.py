"""Tests mirror app/ and tabs/. No test asks anything of another machine."""

import os

from app.process import prepare_process

os.environ["HF_HUB_OFFLINE"] = "1"
prepare_process("warning")  # as the server does, before torch is imported
