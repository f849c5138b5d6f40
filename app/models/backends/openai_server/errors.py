"""Errors of remote engines. Addresses and keys go to the log, never into a sentence for users."""

from app.errors import ModelError


class RemoteError(ModelError):
    """The engine at `name` did not answer as it should."""


class EngineAway(RemoteError):
    zh = "引擎 {name} 现在连不上。请稍后再试或换一个模型；服务器的管理者可在日志里看到原因。"
    en = (
        "The engine {name} cannot be reached now. Try again later or choose another model;"
        " whoever runs the server finds the reason in the log."
    )


class EngineBusy(RemoteError):
    zh = "引擎 {name} 正忙，暂不接受新的请求。请稍后再试。"
    en = "The engine {name} is busy and takes no new requests now. Try again in a moment."


class KeyRefused(RemoteError):
    zh = "引擎 {name} 不接受我们的密钥。请服务器的管理者检查环境变量 {variable}，然后重新启动。"
    en = (
        "The engine {name} refuses our key. Whoever runs the server should check the environment variable"
        " {variable} and start again."
    )


class DiedMidway(RemoteError):
    zh = "引擎 {name} 在回答中途断开，已有的文字不完整。请重试。"
    en = "The engine {name} broke off in the middle of its answer; what is there is incomplete. Please try again."


class UnknownModelThere(RemoteError):
    status = 404
    zh = "引擎 {name} 上没有模型 {model}。那里有：{known}。请在设置 engine 的 # 之后写其中一个名称。"
    en = (
        "The engine {name} has no model {model}. It has: {known}."
        " Write one of these after the # of the setting `engine`."
    )


class RequestRefused(RemoteError):
    status = 400
    zh = "引擎 {name} 拒绝了这个请求：{reason}"
    en = "The engine {name} refused this request: {reason}"


class NoAnswerBehindReasoning(RemoteError):
    zh = "模型 {name} 思考了约 {tokens} 个 token 仍未开始回答，已停止。请换个问法、加大回答长度，或换一个模型。"
    en = (
        "The model {name} has reasoned for about {tokens} tokens without beginning to answer and was stopped."
        " Ask in another way, allow a longer answer, or choose another model."
    )


class NoWeightsHere(ModelError):
    zh = "模型 {name} 运行在别的机器上，这里没有它的权重，不能训练或检查。请选择在本机运行的模型。"
    en = (
        "The model {name} runs on another machine; its weights are not here to be trained or inspected."
        " Choose a model that runs on this machine."
    )
