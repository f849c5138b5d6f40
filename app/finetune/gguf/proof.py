"""Prove an exported GGUF file: prompts of the same length and nearly the same distributions as the model's it is of."""

from app.errors import StudioError
from app.models.interface import Message, Registry
from app.models.registry import drift

MOST_KL = 0.05  # nats; right conversions are below 0.01, a wrong rotation of the heads is at several nats
LEAST_SAME = 0.9  # of the places, with the same token most likely
PROMPTS = 3  # the first are English: half a character costs llama.cpp its whole vocabulary
_TEXT = "Prices: 1234.5 €,\n\n\tx = [1, 22]  # 你好，世界 é🙂"
_TALKS: tuple[list[Message], ...] = (
    [{"role": "user", "content": _TEXT}],
    [
        {"role": "user", "content": "Who are you?"},
        {"role": "assistant", "content": _TEXT},
        {"role": "user", "content": "再见"},
    ],
)


class ExportDiffers(StudioError):
    zh = "导出的 GGUF 与模型不一致（{what}），已删除，不提供下载。请改用适配器或合并后的模型。"
    en = "The exported GGUF differs from the model ({what}), so it was deleted. Use the adapter or the merged model."


def prove(registry: Registry, model: str, exported: str) -> None:
    """Raises ExportDiffers. `exported` is the file of the highest precision."""
    prompts = drift.prompts()[:PROMPTS]
    with registry.lease(model) as leased:
        lengths = [leased.count_tokens(talk) for talk in _TALKS]
        reference = drift.Reference(tuple(drift.answered(leased, prompts)))
    with registry.lease(exported) as leased:
        if [leased.count_tokens(talk) for talk in _TALKS] != lengths:
            raise ExportDiffers(what="tokens")
        found = drift.summary(exported, drift.compared(reference, leased))
    if found.mean_kl > MOST_KL or found.same_choice < LEAST_SAME:
        raise ExportDiffers(what=f"KL {found.mean_kl:.2f}, {found.same_choice:.0%}")
