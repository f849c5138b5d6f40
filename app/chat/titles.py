"""Title of a conversation by the model that answered: one short request, only while no chat model is busy."""

from contextlib import closing

from app.chat.conversations import Turn
from app.chat.request import chat_request
from app.chat.service import ChatService
from app.files import TITLE_LENGTH
from app.models.catalog.known_models import PACKAGED
from app.models.interface import Registry
from app.texts import has_chinese

SMALLEST_MIB = 300  # smaller models write worse titles than the first words of the question are
MOST_CHARACTERS = 600  # of the question, and of the answer
MOST_TOKENS = 24
ASKED = {
    "zh": "为下面的对话起一个不超过十二个字的标题，使用对话的语言。只写标题。\n\n问：{question}\n\n答：{answer}",
    "en": "Give the conversation below a title of at most six words, in its own language. Write the title alone."
    "\n\nQuestion: {question}\n\nAnswer: {answer}",
}
MARKS = "\"'“”‘’「」《》«»*#.。:： "


def title_of(chat: ChatService, question: Turn, answer: Turn, visitor: str) -> str:
    """A title in one line; empty where no model is free for it or what it wrote is none."""
    registry = chat.registry.for_visitor(visitor)
    name = answer.model or registry.default_name
    if not _free(registry, name):
        return ""
    language = "zh" if has_chinese(question.content) else "en"
    told = ASKED[language].format(question=question.content[:MOST_CHARACTERS], answer=answer.content[:MOST_CHARACTERS])
    request = chat_request(told, model=name, temperature=0, max_new_tokens=MOST_TOKENS, thinking=False)
    text = ""
    with closing(chat.reply(request, visitor)) as replies:  # type: ignore[type-var]
        for reply in replies:
            text = reply.text
            if reply.state == "loading" or reply.queue_ahead:
                return ""  # others came meanwhile, and go first
    line = text.strip().partition("\n")[0].strip(MARKS)
    return line if 0 < len(line) <= TITLE_LENGTH * 1.5 else ""


def _free(registry: Registry, name: str) -> bool:
    """Whether this model is loaded, large enough, and no chat model has anything to do."""
    loaded = [entry for entry in registry.ledger().models if entry.kind in ("chat", "vision", "remote")]
    own = next((entry for entry in loaded if entry.name == registry.public_name(name).partition("+")[0]), None)
    if own is None or own.state != "ready" or name.startswith(PACKAGED) or any(entry.leases for entry in loaded):
        return False
    return own.kind == "remote" or own.mib >= SMALLEST_MIB
