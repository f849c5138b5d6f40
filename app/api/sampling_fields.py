"""Read the sampling parameters that chat and text completions share."""

import re
from dataclasses import dataclass
from typing import Any

from app.api.errors import WrongValue
from app.api.request_body import Fields, token_ids
from app.models.interface import Sampling

MOST_TOKENS = 131_072
MOST_STOPS = 16
MOST_TOP_K = 1_000_000
MOST_CHOICES = 8
MAX_SEED = 2**63 - 1
TOKEN_ID = re.compile(r"[0-9]{1,9}")
# OpenAI's documented names for the caller's own bookkeeping; they change nothing about an answer.
BOOKKEEPING = ("user", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "metadata")


@dataclass(frozen=True)
class AnswerOptions:
    """How answers are drawn and sent. Without `max_tokens` an answer may fill the context; `choices` is how many."""

    sampling: Sampling
    max_tokens: int | None
    choices: int
    stream: bool
    include_usage: bool


def read_options(
    given: Fields, length_names: tuple[str, ...], least: int = 1, *, lenient: bool = False
) -> AnswerOptions:
    """`length_names` are the fields for the longest answer, the first that is set counts. Raises ApiError."""
    temperature, top_p = given.number("temperature", 0, 2), given.number("top_p", 0, 1)
    top_k = given.whole("top_k", -1, MOST_TOP_K)
    known: dict[str, Any] = {
        "temperature": temperature,
        "top_p": top_p,
        "top_k": None if top_k is None else max(0, min(top_k, 1000)),
        "seed": _seed(given),
        "stop": _stops(given),
        **_further(given),
    }
    if top_p == 0:  # the smallest nucleus: the most likely token alone
        known |= {"top_p": 1.0, "top_k": 1}
    given.ignore(*BOOKKEEPING)
    given.only("store", False)
    given.only("service_tier", "auto", "default")
    lengths = {name: given.whole(name, -1, MOST_TOKENS, clamp=True) for name in length_names}
    for name, length in lengths.items():
        if length is not None and -1 < length < least:
            raise given.wrong(name, f"a whole number from 1 to {MOST_TOKENS}", f"1 到 {MOST_TOKENS} 之间的整数")
    most = next((length for length in lengths.values() if length is not None), None)
    choices = given.whole("n", 1, MOST_CHOICES) or 1
    stream = given.flag("stream")
    return AnswerOptions(
        Sampling(**known), None if most == -1 else most, choices, stream, _includes_usage(given, stream, lenient)
    )


def _seed(given: Fields) -> int | None:
    """Negative: none, as several clients send for «at random»."""
    seed = given.whole("seed", -(2**63), 2**64 - 1)
    return None if seed is None or seed < 0 else seed & MAX_SEED


def _stops(given: Fields) -> tuple[str, ...]:
    stop = given.any("stop")
    stops = [stop] if isinstance(stop, str) else [] if stop is None else stop
    if not isinstance(stops, list) or len(stops) > MOST_STOPS or not all(isinstance(s, str) for s in stops):
        raise given.wrong("stop", f"up to {MOST_STOPS} strings", f"最多 {MOST_STOPS} 个字符串")
    return tuple(s for s in stops if s)


def _further(given: Fields) -> dict[str, Any]:
    """Penalties, biases and what others have added to OpenAI's parameters."""
    bias = given.any("logit_bias")
    told = {
        "min_p": given.number("min_p", 0, 1),
        "repetition_penalty": given.number("repetition_penalty", 0.01, 10),
        "presence_penalty": given.number("presence_penalty", -2, 2),
        "frequency_penalty": given.number("frequency_penalty", -2, 2),
        "logit_bias": None if bias is None else _bias(given, bias),
        "stop_token_ids": _token_ids(given),
        "ignore_eos": given.flag("ignore_eos"),
    }
    return {name: value for name, value in told.items() if value is not None}


def _bias(given: Fields, bias: object) -> tuple[tuple[int, float], ...]:
    wrong = given.wrong(
        "logit_bias", 'such as {"42": -100}: token ids with numbers from -100 to 100', '形如 {"42": -100} 的对象'
    )
    if not isinstance(bias, dict):
        raise wrong
    pairs = []
    for token, value in bias.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not TOKEN_ID.fullmatch(token) or not is_number or not -100 <= value <= 100:
            raise wrong
        pairs.append((int(token), float(value)))
    return tuple(pairs)


def _token_ids(given: Fields) -> tuple[int, ...]:
    ids = given.any("stop_token_ids")
    if ids is not None and (ids := token_ids(ids)) is None:
        raise given.wrong("stop_token_ids", "a list of token ids", "token 编号的列表")
    return ids or ()


def _includes_usage(given: Fields, stream: bool, lenient: bool) -> bool:
    options = given.any("stream_options")
    if options is None:
        return False
    if not isinstance(options, dict) or not stream:
        raise WrongValue(
            param="stream_options",
            expected_en='{"include_usage": true}, together with "stream": true',
            expected_zh=' {"include_usage": true}，并同时设置 "stream": true',
        )
    known = Fields(options, "stream_options.")
    wanted = known.flag("include_usage")
    known.only("include_obfuscation", False)
    if not lenient:
        known.refuse_unknown()
    return wanted
