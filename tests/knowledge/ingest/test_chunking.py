"""Passages: exact spans, headings, whole code blocks, overlap."""

from itertools import pairwise

import pytest
from langchain_core.documents import Document

from app.knowledge.ingest.chunking import PassageSplitter, split
from app.knowledge.ingest.documents import Text

MARKDOWN = (
    """# Guide

Intro sentence.

## Install

Run the script.

```python
# this is code, not a heading
x = 1

y = 2
```

### Linux

Use apt.

## Use

"""
    + "This sentence is repeated to be long. " * 40
)


def test_markdown_passages_know_their_headings_and_exact_span() -> None:
    text = Text(MARKDOWN, "markdown")
    passages = split(text)
    headings = [passage.heading for passage in passages]
    assert headings[:3] == [("Guide",), ("Guide", "Install"), ("Guide", "Install", "Linux")]
    assert set(headings[3:]) == {("Guide", "Use")}
    for passage in passages:
        content = MARKDOWN[passage.start : passage.end]
        assert content == content.strip("\n")
        assert content.strip()


def test_a_comment_in_code_is_no_heading_and_the_block_stays_whole() -> None:
    install = split(Text(MARKDOWN, "markdown"))[1]
    assert "# this is code, not a heading\nx = 1\n\ny = 2" in MARKDOWN[install.start : install.end]


def test_long_code_block_longer_than_a_passage_is_not_cut() -> None:
    code = "\n".join(f"line_{number} = compute({number})" for number in range(60))
    content = f"# A\n\nBefore.\n\n```python\n{code}\n```\n\nAfter.\n"
    assert sum(code in content[p.start : p.end] for p in split(Text(content, "markdown"))) == 1


def test_long_sections_are_cut_at_sentences_with_overlap_and_nothing_is_lost() -> None:
    sentences = [f"第{number}句话讲的是第{number}件事。" for number in range(200)]
    content = "".join(sentences)
    passages = split(Text(content, "plain"), size=500, overlap=150)
    assert all(passage.end - passage.start <= 500 for passage in passages)
    assert passages[0].start == 0
    assert passages[-1].end == len(content)
    for before, after in pairwise(passages):
        assert 0 < before.end - after.start <= 150
    texts = [content[passage.start : passage.end] for passage in passages]
    assert all(any(sentence in text for text in texts) for sentence in sentences)


@pytest.mark.parametrize("sentence", ["बिल्ली मछली खाती है।", "لماذا يأكل القط السمك؟", "ድመት ዓሣ ይበላል።"])
def test_sentences_of_other_scripts_stay_whole(sentence: str) -> None:
    text = " ".join([sentence] * 80)
    passages = split(Text(text))
    assert len(passages) > 1
    assert all(text[one.start : one.end].rstrip().endswith(sentence[-1]) for one in passages)


def test_every_passage_of_a_long_table_bears_the_names_of_its_columns() -> None:
    rows = "".join(f"| {number} | Person{number} | {'x' * 30} |\n" for number in range(100))
    content = f"# Staff\n\n| id | name | badge colour |\n|---|---|---|\n{rows}\nAfter the table.\n"
    passages = split(Text(content, "markdown"))
    assert len(passages) > 5
    assert passages[0].heading == ("Staff",) and "badge colour" in content[passages[0].start : passages[0].end]
    assert {passage.heading for passage in passages[1:-1]} == {("Staff", "id | name | badge colour")}
    for number in range(100):  # no row is cut
        row = f"| {number} | Person{number} | {'x' * 30} |"
        assert any(row in content[passage.start : passage.end] for passage in passages)


def test_a_passage_does_not_run_over_the_end_of_a_page() -> None:
    text = Text("first page\n\nsecond page\n\n", "plain", (0, 12))
    assert [(passage.page, text.content[passage.start : passage.end]) for passage in split(text)] == [
        (1, "first page"),
        (2, "second page"),
    ]


@pytest.mark.parametrize("markup", ["markdown", "plain", "code"])
def test_text_without_any_break_is_still_cut(markup: str) -> None:
    passages = split(Text("x" * 1700, markup))  # type: ignore[arg-type]
    assert passages[0].start == 0
    assert passages[-1].end == 1700


def test_headings_without_a_body_are_still_found() -> None:
    assert len(split(Text("# Only a title\n", "markdown"))) == 1


def test_it_is_a_langchain_splitter() -> None:
    documents = PassageSplitter("markdown").split_documents([Document(MARKDOWN, metadata={"source": "guide.md"})])
    assert len(documents) > 3
    assert documents[0].metadata["source"] == "guide.md"
