"""Measurements: `python -m bench.NAME` prints JSON lines, the last one with the ratio to a baseline of the same run."""
