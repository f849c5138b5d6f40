"""Citations hold only where the words of the sentence stand in the passage."""

import pytest

from app.knowledge.answer.citations import attribute, check, marked

PASSAGES = [
    "4 比特量化把每个权重压到半个字节，显存大约降到原来的百分之三十。",
    "Continuous batching lets a finished request leave after every step.",
]


@pytest.mark.parametrize(
    ("answer", "verdicts"),
    [
        ("量化把显存降到原来的百分之三十[1]。", [(1, True)]),
        ("量化把显存降到原来的百分之三十。[1]", [(1, True)]),
        ("量化把每个权重压到 8 比特[1]。", [(1, False)]),
        ("火星上没有海洋[1]。", [(1, False)]),
        ("A finished request leaves after every step [2].", [(2, True)]),
        ("A finished request leaves after every step [1].", [(1, False)]),
        (
            "显存降到原来的百分之三十[1]。A finished request leaves [2]. 编造的句子[7]。",
            [(1, True), (2, True), (7, False)],
        ),
        ("显存大约降到百分之三十【1】。", [(1, True)]),
        ("没有引用的回答。", []),
        ("", []),
    ],
)
def test_verdicts(answer: str, verdicts: list[tuple[int, bool]]) -> None:
    assert [(citation.number, citation.supported) for citation in check(answer, PASSAGES)] == verdicts


def test_the_words_are_shown_where_they_stand() -> None:
    (citation,) = check("量化降低显存[1]。", PASSAGES)
    assert {PASSAGES[0][start:end] for start, end in citation.spans} == {"量化", "显存"}


def test_an_answer_without_marks_is_given_those_that_plainly_hold() -> None:
    answer = "Continuous batching lets a finished request leave after every step. Cats like boxes a lot."
    (citation,) = attribute(answer, PASSAGES)
    assert citation.number == 2
    assert marked(answer, [citation], "(?)").startswith(
        "Continuous batching lets a finished request leave after every step.[2]"
    )


def test_what_does_not_hold_is_marked() -> None:
    answer = "显存降到原来的百分之三十[1]。火星上没有海洋[2]。"
    assert marked(answer, check(answer, PASSAGES), "（未证实）") == (
        "显存降到原来的百分之三十[1]。火星上没有海洋[2]（未证实）。"
    )
