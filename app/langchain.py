"""LangChain interfaces of the studio: its models as chat models, collections as vector stores, the text splitter."""

from app.knowledge.answer.langchain_chat_model import RegistryChatModel
from app.knowledge.ingest.chunking import PassageSplitter
from app.knowledge.retrieve.langchain_store import CollectionRetriever, CollectionStore

__all__ = ["CollectionRetriever", "CollectionStore", "PassageSplitter", "RegistryChatModel"]
