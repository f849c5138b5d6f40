"""Exception hierarchy: errors whose text is shown to the user, in Chinese and in English.

StudioError                     the base: catch it at a tab's border, show `error.text(language)`
├── BadInput                    what was typed or uploaded cannot be used
│   ├── PromptTooLong           more tokens than the model's context holds
│   ├── NotLoggedIn             what is there for people with a login
│   └── NoSuchPlace             an address that leads nowhere
├── ModelError                  a model could not be had
│   ├── UnknownModel            no such name in the catalog, on the hub or on disk
│   ├── NotAModel               a folder without usable model files
│   ├── DownloadFailed          the hub did not give the files
│   ├── DoesNotFit              more memory than the budget leaves
│   └── ModelInUse              asked to unload while somebody uses it
├── EngineFailed                a fault of the engine; its requests end, the engine starts again
└── SettingsError               a setting has a value that is not allowed

Services define further subclasses beside the code that raises them. Anything that is not a StudioError is a
bug: it goes to the log with its traceback, and the page shows `Unexpected`.
"""

from typing import ClassVar, Literal

Language = Literal["zh", "en"]


class StudioError(Exception):
    """Subclasses set `zh` and `en`: sentences that say what happened and what to do, filled by `str.format`.

    `status` is that of an HTTP answer; `about` names the request's parameter that is meant, if it is one.
    """

    about: str | None = None
    status: ClassVar[int] = 500
    zh: ClassVar[str] = "出错了，请稍后再试。"
    en: ClassVar[str] = "Something went wrong. Please try again."

    def __init__(self, **values: object) -> None:
        self.values = values
        super().__init__(self.text("en"))

    def text(self, language: Language) -> str:
        """The sentence to show, in `language`."""
        return (self.zh if language == "zh" else self.en).format(**self.values)


class Unexpected(StudioError):
    zh = "程序内部出错，已记录到日志。请重试；如再次出现，请把日志发给服务器的管理者。"
    en = "An internal error was written to the log. Try again; if it returns, send the log to whoever runs the server."


class BadInput(StudioError):
    status = 400
    zh = "{reason_zh}"
    en = "{reason_en}"


class PromptTooLong(BadInput):
    about = "messages"
    zh = "内容有 {tokens} 个 token，模型最多容纳 {limit} 个。请缩短内容，或减小回答长度。"
    en = "The prompt has {tokens} tokens, the model has room for {limit}. Shorten it, or ask for a shorter answer."


class NotLoggedIn(BadInput):
    status = 401
    zh = "请先登录。"
    en = "Log in first."


class NoSuchPlace(BadInput):
    status = 404
    zh = "没有这个地址。"
    en = "There is nothing at this address."


class ModelError(StudioError):
    status = 503
    zh = "模型 {name} 无法使用：{reason}"
    en = "The model {name} cannot be used: {reason}"


class UnknownModel(ModelError):
    status = 404  # clients try a 5xx again, which would not help
    zh = "没有名为 {name} 的模型。可用的模型：{known}；也可以填 Hugging Face 仓库名或本地文件夹。"
    en = "There is no model named {name}. Known models: {known}; a hub repository or a local folder works too."


class NotAModel(ModelError):
    status = 404
    zh = "文件夹 {name} 里没有可用的模型：{reason}。请选择含有 config.json 和权重文件的文件夹。"
    en = "The folder {name} holds no usable model: {reason}. Choose one with config.json and weight files."


class DownloadFailed(ModelError):
    status = 404
    zh = "下载 {name} 失败：{reason}。请检查网络，或设置 HF_ENDPOINT 使用镜像、HF_TOKEN 登录；再次启动会从断点继续。"
    en = (
        "Downloading {name} failed: {reason}. Check the network, set HF_ENDPOINT to a mirror or HF_TOKEN to log in;"
        " starting again resumes where it stopped."
    )


class DoesNotFit(ModelError):
    zh = "模型 {name} 需要 {needed_mib} MiB，可用 {free_mib} MiB。请卸载空闲的模型，或选择更小的模型或 4 位量化。"
    en = (
        "The model {name} needs {needed_mib} MiB and {free_mib} MiB are free."
        " Unload an idle model, or choose a smaller one or 4-bit loading."
    )


class ModelInUse(ModelError):
    zh = "模型 {name} 正在使用中（{leases} 处），现在不能卸载。请等回答结束后再试。"
    en = "The model {name} is in use ({leases} holders) and cannot be unloaded now. Try again when they are done."


class EngineFailed(StudioError):
    zh = "模型引擎出错，本次回答已中断；引擎已重新启动，请重试。"
    en = "The model's engine failed and this answer ended early. It has been restarted; please try again."


class SettingsError(StudioError):
    zh = "设置 {key} 的值 {value} 不可用：{allowed}"
    en = "The setting {key} cannot be {value}: {allowed}"
