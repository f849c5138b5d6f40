"""Errors in OpenAI's form, {"error": {message, type, param, code}}, with an HTTP status that clients act on."""

import logging
from typing import Any, ClassVar

from starlette.responses import JSONResponse

from app.errors import EngineFailed, Language, PromptTooLong, StudioError, Unexpected
from app.models.registry.metering import Ending

log = logging.getLogger(__name__)
RETRY_SECONDS = 5  # where nothing better is known: about what a short answer takes


class ApiError(StudioError):
    """A request that the API itself refuses."""

    status = 400
    code: ClassVar[str | None] = None

    @property
    def param(self) -> str | None:
        """The parameter that is meant."""
        found = self.values.get("param")
        return str(found) if found is not None else None


class NoJson(ApiError):
    zh = "请求的内容应为 UTF-8 编码的 JSON 对象，Content-Type 应为 application/json。"
    en = "The body must be a JSON object in UTF-8, sent with Content-Type: application/json."


class LoneSurrogate(ApiError):
    code = "invalid_value"
    zh = "参数 {param} 中有半个字符（单独的代理项，如 \\ud83d）。请去掉它，或写出完整的字符。"
    en = "The parameter {param} holds half a character (a lone surrogate such as \\ud83d). Remove it or complete it."


class TooLarge(ApiError):
    status = 413
    zh = "请求超过 {limit} 字节。请缩短内容。"
    en = "The request is larger than {limit} bytes. Shorten it."


class WrongValue(ApiError):
    code = "invalid_value"
    zh = "参数 {param} 的值不可用，应为{expected_zh}。"
    en = "The parameter {param} cannot have this value: it must be {expected_en}."


class NotSupported(ApiError):
    code = "unsupported_parameter"
    zh = "这里不支持参数 {param}。请去掉它再试。"
    en = "The parameter {param} is not supported here. Leave it out."


class NotByModel(ApiError):
    code = "unsupported_parameter"
    zh = "模型 {model} 不支持参数 {param}。请去掉它，或换一个模型。"
    en = "The model {model} does not support the parameter {param}. Leave it out, or choose another model."


class CannotSee(ApiError):
    code = "unsupported_content"
    zh = "模型 {model} 看不了图片，也听不了声音，只接受文字。请去掉 {param} 中的非文字部分。"
    en = "The model {model} cannot see images or hear sound, it takes text only. Leave out the other part of {param}."


class WrongKey(ApiError):
    status = 401
    code = "invalid_api_key"
    zh = "API 密钥不对。请在 Authorization: Bearer 之后填写服务器的管理者给你的密钥。"
    en = "The API key is wrong. Send the one that whoever runs the server gave you: Authorization: Bearer KEY."


class NoSuchModel(ApiError):
    status = 404
    code = "model_not_found"
    zh = "没有名为 {model} 的模型。GET /v1/models 会列出可用的模型。"
    en = "There is no model named {model}. GET /v1/models lists those that can be used."


class NoSuchRoute(ApiError):
    status = 404
    code = "unknown_url"
    zh = "这里没有 {method} {path}。可用的有 GET {known_get} 和 POST {known_post}。"
    en = "There is no {method} {path} here; there are GET {known_get} and POST {known_post}."


class NotServed(ApiError):
    status = 404
    code = "not_served"
    zh = "这台服务器不提供 {what}：没有加载所需的模型。请让管理者在设置里开启（embedder、reranker）。"
    en = "This server offers no {what}: it has no model for it. Whoever runs it can set one (embedder, reranker)."


class WrongMethod(ApiError):
    status = 405
    code = "method_not_allowed"
    zh = "{path} 不接受 {method}，请用 {allowed}。"
    en = "{path} does not take {method}; use {allowed}."


def answer_error(error: Exception, language: Language, status: int | None = None) -> JSONResponse:
    """The response to a request that failed before its answer began; with `status` for errors of other modules."""
    told, body = described(error, language)
    if status is None:
        status = told
    else:
        body["type"] = _type(status)
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    if isinstance(error, WrongMethod):
        headers["Allow"] = str(error.values["allowed"])
    if status in (429, 503):
        headers["Retry-After"] = str(getattr(error, "values", {}).get("wait_s", RETRY_SECONDS))
    return JSONResponse({"error": body}, status_code=status, headers=headers)


def described(error: Exception, language: Language) -> tuple[int, dict[str, Any]]:
    """(status, OpenAI's error object). What is no StudioError is a bug: logged here."""
    if not isinstance(error, StudioError):
        log.error("an API request failed", exc_info=error)
        error = Unexpected()
    status = error.status
    param = error.param if isinstance(error, ApiError) else error.about
    message = _too_long(error) if isinstance(error, PromptTooLong) and language == "en" else error.text(language)
    return status, {"message": message, "type": _type(status), "param": param, "code": _code(error)}


def _too_long(error: PromptTooLong) -> str:
    """In the words by which client libraries recognise it."""
    limit, tokens = error.values["limit"], error.values["tokens"]
    return f"This model's maximum context length is {limit} tokens, but the prompt has {tokens} tokens. Shorten it."


def _code(error: StudioError) -> str | None:
    if isinstance(error, ApiError):
        return error.code
    named = {PromptTooLong: "context_length_exceeded", Ending: "shutting_down", EngineFailed: "engine_failed"}
    by_status = {404: "model_not_found", 429: "rate_limit_exceeded", 503: "model_unavailable"}
    return named.get(type(error)) or by_status.get(error.status)


def _type(status: int) -> str:
    known = {401: "authentication_error", 429: "rate_limit_error"}
    return known.get(status, "server_error" if status >= 500 else "invalid_request_error")
