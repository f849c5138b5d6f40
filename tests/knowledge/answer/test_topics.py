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
