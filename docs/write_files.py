"""docs/files.md, what each module does, from the first lines of their docstrings: python docs/write_files.py"""

import ast
import subprocess
from itertools import groupby
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[1]
HEAD = """# Files

Each folder from the outside in, and what each module does. [architecture.md](architecture.md) shows how they depend on
one another.
"""


def page() -> str:
    """The Markdown of all Python modules of the application and its measurements, folder by folder."""
    listed = ["git", "ls-files", "run_gradio.py", "app/*.py", "tabs/*.py", "bench/*.py"]
    names = subprocess.run(listed, cwd=ROOT, text=True, capture_output=True, check=True).stdout.splitlines()
    paths = sorted((PurePosixPath(name) for name in names), key=lambda path: (path.parent.as_posix(), path.name))
    sections = []
    for folder, inside in groupby(paths, key=lambda path: path.parent):
        rows = [f"| [`{path.name}`](../{path}) | {first} |\n" for path in inside if (first := first_line(path))]
        if rows:
            sections.append(f"\n## {'The start' if folder == PurePosixPath('.') else f'`{folder}/`'}\n\n")
            sections.append("| file | what it does |\n|---|---|\n")
            sections.extend(rows)
    return HEAD + "".join(sections)


def first_line(path: PurePosixPath) -> str:
    """The first sentence of a module's docstring, on one line; empty where there is none."""
    text = ast.get_docstring(ast.parse((ROOT / path).read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split()).replace("|", "\\|")


if __name__ == "__main__":
    (ROOT / "docs" / "files.md").write_text(page(), encoding="utf-8")
