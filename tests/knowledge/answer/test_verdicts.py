"""Verdicts: a sentence is supported only where one sentence of the source says it; quotes need no model."""

import pytest

from app.knowledge.answer.amounts import same_beside
from app.knowledge.answer.source_sentences import source_sentences
from app.knowledge.answer.tokens import numbers
from app.knowledge.answer.verdicts import MARK, judge, marked
from app.knowledge.retrieve.segmenting import words

PASSAGES = [
    ("Prices", "The Alder costs 14 euros a day and the Birch costs 31 euros a day. Boats come back before 18:00."),
    ("Boats", "| Model | Price | Battery |\n|---|---|---|\n| Alder | 14 | 6 h |\n| Birch | 31 | 9 h |"),
    ("量化", "4 比特量化把每个权重压到半个字节，显存大约降到原来的百分之三十。甲方案每月 14 元，乙方案每月 31 元。"),
    ("Cedar", "## Cedar\n\nThe Cedar is a large boat. It costs 52 euros a day and carries 8 people."),
    ("Safety", "Safetensors can be mapped into memory without running anything."),
    ("Ships", "It was built in 1998 in Kiel by Otto Lange, while its sister ship was built in 2004 by Karl Weber."),
    ("Club", "Present: Helen Marsh (chair), Tom Okafor (treasurer). Ann wants to open a shop. CC BY-NC forbids sales."),
    ("Flat", "The walls must be painted white, unless the tenancy was short. Dogs may be kept with consent."),
    ("指示灯", "红灯表示重度污染，紫灯说明滤网没有装好。滤网不能水洗。"),
]
PASSAGES += [
    (
        "Club",
        "The bill rose to £2,150. The committee chose Alder by four votes to one. It postponed the rest to the next "
        "meeting. The new oars will arrive in May. Luca wants to open a group from 4 p.m. to 6 p.m. on Thursdays.",
    ),
    (
        "Pump > Care",
        "The shaft seal is a wearing part. It lasts about 800 hours. The hose must be at least 19 mm wide.",
    ),
    (
        "制度",
        "本制度适用于全体员工，实习生的请假另行规定。病假须在上午十点以前报告。"
        "连续旷工三天或者累计旷工五天，可以解除合同。",
    ),
    (
        "丧假",
        "父母去世的，丧假 3 天；祖父母去世的，丧假 1 天。更换费用估算为 186 万元。地面车位先到先停。",
    ),
    (
        "滤网",
        "初效滤网每两周清理一次，可以水洗。HEPA 滤网不能水洗，一般使用六到八个月需要更换。"
        "沙坑改为塑胶地面。机器离墙至少 30 厘米。",
    ),
]
TEXTS = [text for _, text in PASSAGES]
SOURCES = [
    sentence for at, (title, text) in enumerate(PASSAGES, 1) for sentence in source_sentences(at, text, (title,))
]


def verdicts(question: str, answer: str) -> list[object]:
    """The passage of each supported sentence, else the judgement."""
    return [one.passage or one.judgement for one in judge(answer, question, SOURCES, TEXTS)]


@pytest.mark.parametrize(
    ("question", "answer", "expected"),
    [
        ("What does the Birch cost?", "14 euros a day.[1]", "not found"),
        ("What does the Birch cost?", "31 euros a day.[1]", 1),
        ("What does the Birch cost?", "The Birch costs 14 euros a day [1].", "not found"),
        ("What does the Birch cost?", "The Birch costs 31 dollars a day [1].", "not found"),
        ("Prices?", "The Alder costs 31 euros a day and the Birch costs 14 euros a day.", "not found"),
        ("Prices?", "The Alder costs 14 euros a day and the Birch costs 31 euros a day.", 1),
        ("How long does the Birch's battery last?", "The battery of the Birch lasts 9 h [2].", 2),
        ("How long does the Birch's battery last?", "The battery of the Birch lasts 6 h [2].", "not found"),
        ("How long does the Birch's battery last?", "31 h [2].", "not found"),
        ("乙方案每月多少钱？", "乙方案每月31元[3]。", 3),
        ("乙方案每月多少钱？", "乙方案每月14元[3]。", "not found"),
        ("乙方案每月多少钱？", "每月14元。", "not found"),
        ("量化把显存降到多少？", "显存大约降到原来的 30%【3】。", 3),
        ("量化把显存降到多少？", "显存大约降到原来的 50%[3]。", "not found"),
        ("What does the Cedar cost?", "The Cedar costs 52 euros a day.", 4),
        ("What does the Cedar cost?", "It costs 14 euros a day.", "not found"),
        ("How many people does the Cedar carry?", "The Cedar carries eight people.", 4),
        ("Why are safetensors considered safer?", "They prevent the loss of data when a model is lost.", "not found"),
        ("Why are safetensors considered safer?", "Safetensors are considered safer [5].", "echo"),
        ("Why are safetensors safer?", "They can be mapped into memory without running anything.", 5),
        ("Why are safetensors safer?", "Safetensors cannot be mapped into memory [5].", "not found"),
        ("When do boats come back?", "Boats come back before 18:00 [1].", 1),
        ("When do boats come back?", "Boats come back after 18:00 [1].", "not found"),
        ("Who built it?", "It was built in 1998 in Kiel by Otto Lange.", 6),
        ("Who built the sister ship?", "The sister ship was built by Otto Lange.", "not found"),
        ("Who built the sister ship?", "The sister ship was built in 1998.", "not found"),
        ("Who is the treasurer?", "Helen Marsh is the treasurer.", "not found"),
        ("Who is the treasurer?", "Tom Okafor is the treasurer.", 7),
        ("What does Ann do?", "Ann opened a shop.", "not found"),
        ("What is forbidden?", "CC BY forbids sales.", "not found"),
        ("What is forbidden?", "CC BY-NC forbids sales.", 7),
        ("What about walls?", "The walls must be painted white.", "not found"),
        ("What about dogs?", "Dogs may be kept without consent.", "not found"),
        ("May I keep a dog?", "No, dogs may be kept with consent.", "not found"),
        ("May I keep a dog?", "Yes, dogs may be kept with consent.", 8),
        ("紫灯是什么意思？", "紫灯表示重度污染。", "not found"),
        ("红灯是什么意思？", "红灯表示重度污染。", 9),
        ("红灯是什么意思？", "重度污染：", "not found"),
        ("红灯是什么意思？", "## 重度污染", "not found"),
        ("滤网能水洗吗？", "滤网可以水洗。", "not found"),
        ("滤网能水洗吗？", "滤网不能水洗。", 9),
        ("How much did the bill rise?", "The bill rose to £2,150.", 10),
        ("How much did the bill rise?", "The bill rose by £2,150.", "not found"),
        ("Who was chosen?", "The committee chose Alder by four votes to one.", 10),
        ("Who was chosen?", "The committee chose Alder by one vote to four.", "not found"),
        ("What was postponed?", "It postponed the rest to the last meeting.", "not found"),
        ("When do the oars arrive?", "The new oars will arrive in May.", 10),
        ("When do the oars arrive?", "The new oars arrived in May.", "not found"),
        ("What does Luca do?", "Luca has opened a group from 4 p.m. to 6 p.m. on Thursdays.", "not found"),
        ("What does Luca want?", "Luca wants to open a group from 4 a.m. to 6 a.m. on Thursdays.", "not found"),
        ("What does Luca want?", "Luca wants to open a group from 4 p.m. to 6 p.m. on Thursdays.", 10),
        ("What lasts how long?", "The shaft seal lasts about 800 hours.", 11),
        ("What lasts how long?", "The pump lasts about 800 hours.", "not found"),
        ("How wide is the hose?", "The hose must be at least 19 m wide.", "not found"),
        ("How wide is the hose?", "The hose must be at least 19 mm wide.", 11),
        ("Who is the tenant?", "Otto Lange built the sister ship.", "not found"),
        ("制度适用于谁？", "本制度适用于实习生。", "not found"),
        ("制度适用于谁？", "本制度适用于全体员工。", 12),
        ("病假几点报告？", "病假须在下午十点以前报告。", "not found"),
        ("病假几点报告？", "病假须在上午十点以前报告。", 12),
        ("旷工怎么办？", "连续旷工五天，可以解除合同。", "not found"),
        ("丧假几天？", "父母去世的，丧假 1 天。", "not found"),
        ("费用多少？", "更换费用估算为 186 元。", "not found"),
        ("费用多少？", "更换费用估算为 186 万元。", 13),
        ("车位怎么停？", "地下车位先到先停。", "not found"),
        ("滤网多久换？", "初效滤网一般使用六到八个月需要更换。", "not found"),
        ("沙坑怎么办？", "塑胶地面改为沙坑。", "not found"),
        ("沙坑怎么办？", "沙坑改为塑胶地面。", 14),
        ("离墙多远？", "机器离墙至少 30 米。", "not found"),
        ("Is it red?", "Mars has no seas [1].", "not found"),
        ("Is it red?", "The sources do not say this.", "not found"),
    ],
)
def test_judgements(question: str, answer: str, expected: object) -> None:
    assert verdicts(question, answer) == [expected]


def test_the_number_of_a_list_is_no_sentence() -> None:
    answer = "1. The Birch costs 31 euros a day.\n2. The Alder costs 9 euros."
    assert verdicts("What do they cost?", answer) == [1, "not found"]
    assert verdicts("What do they cost?", "**1. The Birch costs 31 euros a day.**\n**1.") == [1, "not found"]


@pytest.mark.parametrize(
    ("question", "answer", "expected"),
    [
        ("负号变成方块怎么解决？", "在这个问题中，我们可以用下", "not found"),
        ("断线的问题怎么解决？", "在这个问题中，我们可以用下", "not found"),
        ("断线的问题怎么解决？", "对于这些问题，答案如下", "not found"),
        ("负号变成方块怎么解决？", "tmux。", "not found"),
        ("断线以后用什么让训练不停？", "tmux。", 1),
        ("Which tree is blue?", "Alder.", "not found"),
        ("What did the committee choose?", "Alder.", 2),
    ],
)
def test_one_word_is_supported_by_what_speaks_of_the_question(question: str, answer: str, expected: object) -> None:
    texts = ["断线的问题：用 tmux 开一个会话，断线以后训练也不停。", "The committee chose Alder on Monday."]
    sources = [each for number, text in enumerate(texts, 1) for each in source_sentences(number, text)]
    (verdict,) = judge(answer, question, sources, texts)
    assert (verdict.passage or verdict.judgement) == expected


RULES = (
    "A static mark survives light editing but vanishes after a paraphrase. With a local model nothing you type leaves "
    "the server. Running dry for more than 30 seconds destroys the seal. The motor stops when it becomes hotter than "
    "130 °C. It starts again by itself after about 15 minutes. The committee postponed the decision to the next "
    "meeting. Rent is due by the third working day of each month. Single rooms may be let with consent. Smoking is not "
    "allowed inside the flat. The postage is paid by us. It consists of the queue, the prefill, and one step. The "
    "deposit is two months' rent. It is returned within eight weeks. The constant, often sixty, is free. Twenty-five "
    "helpers must come.",
    "模型缓存可以重新下载，不必备份。备份前最好停掉服务。一层业主免于分摊。入职满一年的员工每年享有 5 天年假。"
    "快递柜再增加两组。秩是两个小矩阵的边长，8 最常见。寿命会缩短到三个月。病假须提前三天申请。每月 5 元，每年 50 元。",
    "| Property | GP-40 | GP-60 |\n|---|---|---|\n| Maximum head | 36 m | 44 m |",
    "| 天数 | 由谁批准 | 备案 |\n|---|---|---|\n| 2 至 5 天 | 部门经理 | 人事专员 |",
)


@pytest.mark.parametrize(
    ("claim", "expected"),
    [
        # A condition or restriction of the source is left out.
        ("Nothing you type leaves the server.", 0),
        ("With a local model nothing you type leaves the server.", 1),
        ("Running dry destroys the seal.", 0),
        ("Single rooms may be let.", 0),
        ("Single rooms may be let with consent.", 1),
        ("Smoking is not allowed.", 0),
        ("员工每年享有 5 天年假。", 0),
        ("入职满一年的员工每年享有 5 天年假。", 2),
        ("The committee postponed the meeting.", 0),
        ("快递柜一共有两组。", 0),
        ("It consists of the queue and the prefill.", 0),
        ("It consists of the queue, the prefill, and one step.", 1),
        # Two parts of the source are put together.
        ("A static mark survives light editing and a paraphrase.", 0),
        ("A static mark survives light editing.", 1),
        ("模型缓存也需要备份。", 0),
        ("The motor stops after about 15 minutes.", 0),
        ("The motor starts again by itself after about 15 minutes.", 1),
        ("The rent is returned within eight weeks.", 0),
        ("The deposit is returned within eight weeks.", 1),
        # What an amount counts, and in which column it stands.
        ("Rent is due by the third day of each month.", 0),
        ("Rent is due by the third working day of each month.", 1),
        ("寿命会缩短三个月。", 0),
        ("寿命会缩短到三个月。", 2),
        ("秩是两个小矩阵的边长，最小是 8。", 0),
        ("The maximum head of the GP-40 is 44 m.", 0),
        ("The maximum head of the GP-60 is 44 m.", 3),
        ("2 至 5 天由人事专员批准。", 0),
        ("2 至 5 天由部门经理批准。", 4),
        # Words that deny, oblige, and tell who.
        ("一层业主也需要分摊。", 0),
        ("病假可以提前三天申请。", 0),
        ("此外，病假必须提前三天申请。", 2),
        ("Twenty-five helpers may come.", 0),
        ("25 helpers must come.", 1),
        ("The postage is paid by you.", 0),
        ("The postage is paid by us.", 1),
        # Said in the source's own words, it is always found.
        ("每月 5 元，每年 50 元", 2),
        ("The constant is often 60.", 1),
        ("However, smoking is not allowed inside the flat.", 1),
    ],
)
def test_what_models_change_in_a_sentence(claim: str, expected: int) -> None:
    sources = [each for number, text in enumerate(RULES, 1) for each in source_sentences(number, text)]
    (verdict,) = judge(claim, "How is it?", sources, RULES)
    assert verdict.passage == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Yes. Single rooms may be let with consent.", [1]),
        ("No. Single rooms may be let with consent.", [0]),
        ("Yes. Twenty-five helpers must come.", [0]),  # of which nothing was asked
        ("Yes.", [0]),
        ("Yes.\n\nSingle rooms may be let with consent. Yes.", [1, 0]),
    ],
)
def test_yes_is_judged_with_what_follows_it(answer: str, expected: list[int]) -> None:
    sources = list(source_sentences(1, RULES[0]))
    found = judge(answer, "May I let single rooms?", sources, RULES)
    assert [verdict.passage for verdict in found] == expected


def test_two_marks_in_one_sentence_become_the_one_that_holds() -> None:
    answer = "The sky is green [1][2]. The Birch costs 31 euros a day [2][7]. Safe? 乙方案每月31元。"
    assert marked(answer, judge(answer, "x", SOURCES, TEXTS), " (?)") == (
        "The sky is green (?). The Birch costs 31 euros a day[1]. Safe (?)? 乙方案每月31元[3]。"
    )


@pytest.mark.parametrize(
    "mark",
    ["[1, 2]", "[1，2]", "[1; 2]", "[1-2]", "［1］", "[[1]]", "[^1]", "[ 1 ]", "[Source 1]", "[来源1]", "[1]; [2]"],
)
def test_citations_in_other_forms_are_no_amounts(mark: str) -> None:
    answer = f"The Birch costs 31 euros a day {mark}. A second one."
    assert marked(answer, judge(answer, "x", SOURCES, TEXTS), "(?)") == (
        "The Birch costs 31 euros a day[1]. A second one(?)."
    )
    assert MARK.sub("", "The value is [1, 2].") == "The value is [1, 2]."


def test_a_refusal_is_not_marked_and_an_echo_is_left_out() -> None:
    question = "Why are safetensors considered safer?"
    answer = "Safetensors are considered safer [1]. The documents do not say more."
    assert marked(answer, judge(answer, question, SOURCES, TEXTS), "(?)") == "The documents do not say more."


def test_the_words_are_shown_where_they_stand() -> None:
    (verdict,) = judge("乙方案每月31元。", "乙方案", SOURCES, TEXTS)
    assert "乙方案每月31元" in "".join(TEXTS[2][start:end] for start, end in verdict.spans)


def test_amounts_are_compared_in_one_form() -> None:
    said = "1,000 people, 三成, 百分之四十五, 2.50 m, three, 18:00"
    assert numbers(said) == {"1000", "30", "45", "2.5", "3", "18:00"}
    assert numbers("10³ m², 10⁻⁶ and 103") == {"10³", "10⁻⁶", "103"}
    assert numbers("共１２天，１．５元") == {"12", "1.5"}
    assert [word for word, _, _ in words("CO₂ m² ＡＢ１２")] == ["co2", "m2", "ab12"], "as a question writes them"


@pytest.mark.parametrize("source", ["票价为５元。", "票价为٥元。", "票价为५元。"])
def test_digits_of_other_scripts_are_amounts(source: str) -> None:
    assert same_beside("票价为5元。", source)
    assert not same_beside("票价为5万元。", source.replace("元", "亿元"))
