"""docs/settings.md, from the settings themselves: python docs/write_settings.py"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from app.settings import FILE, PREFIX, Settings

FOLDER = Path(__file__).parent
HEAD = f"""# Settings

Each is a flag (`--port 8000`), a variable (`{PREFIX}PORT=8000`) and a key (`port = 8000`) of the file `{FILE}` in the
folder of the start, or of the file that `--config` names. A flag wins over a variable, a variable over the file.
Switches are turned off by `--no-…`, and are `true` or `false` elsewhere. A wrong value stops the start and says which
are allowed.

| setting | default | what it does |
|---|---|---|
"""


def page() -> str:
    """The Markdown of all settings, in the order of `--help`."""
    rows = []
    for name, field in Settings.model_fields.items():
        default = "off" if field.default is False else f"`{field.default}`" if field.default not in ("", ()) else ""
        rows.append(f"| `{name}` | {default} | {(field.description or '').replace('|', '/')} |\n")
    return HEAD + "".join(rows)


if __name__ == "__main__":
    (FOLDER / "settings.md").write_text(page(), encoding="utf-8")
