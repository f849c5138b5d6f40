"""Questions from any Markdown files: each heading is a question, its section (without headings) the answer."""

import re
from pathlib import Path

from app.texts import has_chinese
from bench.question_set import Question

HEADING = re.compile(r"^#{1,6}[ \t]+(.+?)[ \t#]*$", re.MULTILINE)
LEAST = 8  # characters of a heading that asks for something
ANSWER = 60  # characters of the section that a passage has to hold


def heading_questions(folder: Path, bare: Path) -> list[Question]:
    """Copies the folder's Markdown to `bare` without its headings; one question for each heading that occurs once."""
    found: list[Question] = []
    titles: list[str] = []
    for path in sorted(folder.rglob("*.md")):
        name = "-".join(path.relative_to(folder).parts)
        parts = HEADING.split(path.read_text(encoding="utf-8", errors="replace"))
        content = parts[0]
        for title, body in zip(parts[1::2], parts[2::2], strict=True):
            start = len(content) + len(body) - len(body.lstrip())
            content += body
            titles.append(title)
            if len(title.encode()) >= LEAST and len(body.strip()) >= ANSWER:
                language = "zh" if has_chinese(title) else "en"
                found.append(Question(title, language, name, start, start + ANSWER))
        (bare / name).write_text(content)
    return [question for question in found if titles.count(question.text) == 1]
