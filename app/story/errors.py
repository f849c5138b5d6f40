"""Errors of stories and illustrated articles."""

from app.errors import BadInput


class EmptyPremise(BadInput):
    zh = "请先写下故事的梗概，一句话就够。"
    en = "Say first what the story is about; one sentence is enough."


class PremiseTooLong(BadInput):
    zh = "梗概和设定有 {tokens} 个 token，这个模型最多容纳 {limit} 个。请缩短，或换用上下文更长的模型。"
    en = (
        "Premise and settings have {tokens} tokens; this model has room for {limit}."
        " Shorten them, or choose a model with a longer context."
    )


class WrongLength(BadInput):
    zh = "长度 {value} 不可用，应在 {low} 到 {high} 之间（中文按字数，英文按词数）。"
    en = "The length cannot be {value}: it must be from {low} to {high} (characters in Chinese, words in English)."


class OtherLanguage(BadInput):
    zh = "看不出故事该用中文还是英文来写。请在“语言”里选一种。"
    en = "The premise is neither Chinese nor English. Choose the language of the story."


class WrongLanguage(BadInput):
    zh = "故事只能用中文（zh）或英文（en）写，不能用 {value}。"
    en = "A story is written in Chinese (zh) or English (en), not in {value}."


class NothingWritten(BadInput):
    zh = "还没有故事，请先写一篇。"
    en = "There is no story yet. Write one first."


class NoParagraph(BadInput):
    zh = "请先点一下要改的段落。"
    en = "Click the paragraph you want to change first."


class WriterLost(BadInput):
    zh = "这个模型没能给出可用的文字，原文保持不变。请再试一次，或换用更大的模型。"
    en = "This model gave no usable text, so nothing was changed. Try again, or choose a larger model."
