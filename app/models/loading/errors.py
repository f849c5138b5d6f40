"""Errors of checkpoints that cannot be loaded.

What a library says about it is English, so it stands in English sentences only, and in the log.
"""

import re

from app.errors import NotAModel

FOLDERS = re.compile(r"(?<![\w:/])/(?:[^'\"/:]+/)+")


class UnknownArchitecture(NotAModel):
    zh = "模型 {name} 的结构 {kind} 需要运行它自带的代码，本程序不支持。请换一个模型。"
    en = "The model {name} ({kind}) needs code of its own to run, which is not supported. Choose another model."


class NotAChatModel(NotAModel):
    zh = "{name}（{kind}）不是续写文本的语言模型，不能用来对话。请选择一个对话模型。"
    en = "{name} ({kind}) is no language model that goes on with a text, so it cannot chat. Choose a chat model."


class ReadsAhead(NotAChatModel):
    zh = "{name}（{kind}）读一个词时会用到后面的词，不能逐词续写，因此不能用来对话。请选择一个对话模型。"
    en = (
        "{name} ({kind}) reads each word by those that follow it, so it cannot go on with a text word by word."
        " Choose a chat model."
    )


class UnusableConfig(NotAModel):
    zh = "模型 {name} 的 config.json 里有本程序不认识的值（详情见服务器日志）。请换一个模型或版本。"
    en = "The config.json of the model {name} has values that are not known here: {reason}. Choose another version."


class CannotBeLoaded(NotAModel):
    zh = "模型 {name} 的文件无法加载（详情见服务器日志）。请换一个版本。"
    en = "The files of the model {name} cannot be loaded: {example}. Choose another version."


class WeightsDoNotMatch(NotAModel):
    zh = "模型 {name} 的权重与 config.json 不符（{example}）。请重新下载。"
    en = "The weights of the model {name} do not match its config.json ({example}). Download it again."


class WeightsAreNotNumbers(NotAModel):
    zh = "模型 {name} 的权重里有不是数字的值（NaN），它无法回答。请重新下载，或换一个版本。"
    en = "The weights of the model {name} hold values that are no numbers (NaN). Download it again or choose another."


class UnknownQuantisation(NotAModel):
    zh = "模型 {name} 的量化格式 {kind} 不受支持。支持 AWQ、GPTQ 的 4 位和 8 位权重以及 FP8；或请选择未量化的版本。"
    en = (
        "The quantisation {kind} of the model {name} is not supported. AWQ and GPTQ at 4 or 8 bits and FP8 are;"
        " or choose the version that is not quantised."
    )


class NoTokenizer(NotAModel):
    zh = "文件夹 {name} 里没有可用的分词器（tokenizer.json 或 tokenizer.model）。请换一个文件夹。"
    en = "The folder {name} has no usable tokenizer (tokenizer.json or tokenizer.model). Choose another."


class PythonTokenizer(NotAModel):
    zh = "模型 {name} 的分词器 {kind} 只能由 Python 代码运行，不受支持。请选择带有 tokenizer.json 的版本。"
    en = "The tokenizer {kind} of the model {name} exists in Python only. Choose a version with a tokenizer.json."


class TokenizerDoesNotMatch(NotAModel):
    zh = "模型 {name} 的分词器有 {tokens} 个 token，而权重只认识 {rows} 个。分词器与权重不配套，请重新下载。"
    en = "The tokenizer of the model {name} has {tokens} tokens, its weights know {rows}. Download it again."


class CannotAnswer(NotAModel):
    zh = "模型 {name} 已加载，但当前的 transformers 无法用其结构 {kind} 回答（详情见服务器日志）。请换一个模型或版本。"
    en = (
        "The model {name} was loaded, but the installed transformers cannot answer with its architecture {kind};"
        " the server's log says why. Choose another model or version."
    )


def first_line(error: BaseException) -> str:
    """What a library's error says, short, and of a path in it the file's name only."""
    return FOLDERS.sub("", (str(error).strip() or type(error).__name__).splitlines()[0])[:200]


def last_line(error: BaseException) -> str:
    """The same of an error that tells its reason at the end."""
    return first_line(Exception(str(error).strip().rpartition("\n")[2]))
