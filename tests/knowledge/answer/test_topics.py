"""A sentence that names no subject is supported only where the source speaks of the same one."""

import pytest

from app.knowledge.answer.source_sentences import source_sentences
from app.knowledge.answer.verdicts import judge

PASSAGES = [
    (
        "Cakes",
        "| Item | Price | Contains |\n|---|---|---|\n"
        "| Almond tart | 48 EUR | nuts, egg |\n| Chocolate cake | 52 EUR | gluten, milk |",
    ),
    ("Flat", "Smoking is not allowed inside; it is allowed on the balcony. Dogs need the landlord's consent."),
    ("Pump", "Clean the filter every 50 hours. Empty the pump before the first frost and store it in a dry room."),
    ("Seal", "The shaft seal is a wearing part. It lasts about 800 hours."),
    ("假期", "男员工的陪产假 15 天。产假 158 天，其中产前可以休 15 天；难产的增加 10 天。"),
    (
        "价目",
        "| 项目 | 规格 | 单价 | 交货时间 |\n|---|---|---|---|\n"
        "| 名片 | 铜版纸 | 35 | 2 个工作日 |\n| 名片 | 烫金 | 88 | 5 个工作日 |",
    ),
    ("指示灯", "蓝灯表示空气良好，橙灯表示轻度污染。"),
]
TEXTS = [text for _, text in PASSAGES]
SOURCES = [each for at, (title, text) in enumerate(PASSAGES, 1) for each in source_sentences(at, text, (title,))]


@pytest.mark.parametrize(
    ("question", "before", "claim", "is_said"),
    [
        ("How much is the almond tart?", "The almond tart is 48 EUR.", "It contains gluten, milk.", False),
        ("How much is the almond tart?", "The almond tart is 48 EUR.", "It contains nuts, egg.", True),
        ("What else?", "The chocolate cake costs 52 EUR.", "It contains gluten, milk.", True),
        ("May I keep a dog?", "Dogs need the landlord's consent.", "It is allowed on the balcony.", False),
        ("May I smoke?", "Smoking is not allowed inside.", "It is allowed on the balcony.", True),
        ("How often is the filter cleaned?", "Clean the filter every 50 hours.", "Store it in a dry room.", False),
        ("Where does the pump stay?", "", "Store it in a dry room.", True),
        ("How often is the filter cleaned?", "Clean the filter every 50 hours.", "It lasts about 800 hours.", False),
        ("What of the shaft seal?", "", "It lasts about 800 hours.", True),
        ("爸爸可以休几天？", "爸爸的陪产假为 15 天。", "难产的增加 10 天。", False),
        ("产假多少天？", "产假 158 天。", "难产的增加 10 天。", True),
        ("烫金名片多少钱？", "烫金名片 88。", "交货时间是 2 个工作日。", False),
        ("烫金名片多少钱？", "烫金名片 88。", "交货时间是 5 个工作日。", True),
        ("橙灯是什么意思？", "", "橙灯表示轻度污染。", True),
        ("亮灯是什么意思？", "", "橙灯表示轻度污染。", True),
    ],
)
def test_it_is_who_the_source_speaks_of(question: str, before: str, claim: str, is_said: bool) -> None:
    *_, verdict = judge(f"{before} {claim}".strip(), question, SOURCES, TEXTS)
    assert (verdict.judgement == "supported") is is_said


UNNAMED = [
    (("Club minutes",), "The lock of the back door will be changed. Keys are handed out against a deposit of £10."),
    (("Tenancy agreement", "Deposit"), "The deposit is returned within eight weeks after the keys were handed back."),
    (
        ("Troubleshooting", "Repetition"),
        "Endless repetition is typical of small models at temperature zero. Raise the temperature to 0.5.",
    ),
    (
        ("Pump", "Care"),
        "Clean the filter every 50 hours with a soft brush. Empty the pump completely and store it in a dry room.",
    ),
    (("量化", "8 比特量化"), "8 比特量化几乎不损失质量。"),
    (("量化", "4 比特量化"), "代价是计算前要先还原。"),
    (("说明书", "3. 保养"), "滤网可以水洗。若干零件需要上油。如果进水，必须送修。"),
    (
        ("净化器", "滤网"),
        "HEPA 滤网六到八个月需要更换。活性炭滤网的寿命约一年。如果在新装修的房间里使用，寿命会缩短到三个月。",
    ),
]
UNNAMED_TEXTS = [text for _, text in UNNAMED]
UNNAMED_SOURCES = [each for at, (title, text) in enumerate(UNNAMED, 1) for each in source_sentences(at, text, title)]


@pytest.mark.parametrize(
    ("question", "answer", "expected"),
    [
        # An instruction, of what stands before it in the source.
        (
            "Why does it ramble on?",
            "It rambles on as its temperature is zero. You can raise the temperature to 0.5.",
            [0, 0],
        ),
        ("Why does it ramble on?", "Its temperature is zero. Raise the temperature to 0.5.", [0, 0]),
        (
            "What of small models?",
            "Endless repetition is typical of small models at temperature zero. You can raise the temperature to 0.5.",
            [3, 3],
        ),
        ("How do I stop the repetition?", "Raise the temperature to 0.5.", [3]),
        (
            "How often is the filter cleaned?",
            "Clean the filter every 50 hours with a soft brush. Store it in a dry room.",
            [4, 0],
        ),
        ("What of the pump in winter?", "Empty the pump completely and store it in a dry room.", [4]),
        # «The deposit», where a nearer document speaks of another one.
        (
            "How do I get a key?",
            "Keys are handed out against a deposit of £10. The deposit is returned within eight weeks after the keys "
            "were handed back.",
            [1, 0],
        ),
        (
            "What does the tenancy agreement say?",
            "The deposit is returned within eight weeks after the keys were handed back.",
            [2],
        ),
        # Without a subject, below a heading with another number.
        ("8 比特量化质量怎么样？", "8 比特量化几乎不损失质量。代价是计算前要先还原。", [5, 0]),
        ("4 比特量化的代价是什么？", "代价是计算前要先还原。", [6]),
        ("怎么维护？", "滤网可以水洗。若干零件需要上油。", [7, 7]),  # the number of a heading counts nothing
        # A condition, of what stands before it; and a wrong sentence tells nobody what is spoken of.
        ("HEPA 滤网多久换？", "HEPA 滤网六到八个月需要更换。如果在新装修的房间里使用，寿命会缩短到三个月。", [8, 0]),
        ("活性炭能用多久？", "活性炭滤网的寿命约一年。如果在新装修的房间里使用，寿命会缩短到三个月。", [8, 8]),
        ("能用多久？", "活性炭滤网的寿命约两年。如果在新装修的房间里使用，寿命会缩短到三个月。", [0, 0]),
    ],
)
def test_what_an_unnamed_subject_is(question: str, answer: str, expected: list[int]) -> None:
    assert [verdict.passage for verdict in judge(answer, question, UNNAMED_SOURCES, UNNAMED_TEXTS)] == expected
