"""Measurements: `python -m bench.NAME` prints JSON lines, the last one with the ratio to a baseline of the same run."""

from app.process import prepare_process

prepare_process("warning")  # as the server does, before torch is imported
