"""Paths of the installed project: its root folder and the assets that ship with it."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ASSETS = ROOT / "assets"
