"""Prefix cache keyed by adapter: equal tokens under another adapter are another block.

The cache of transformers' continuous batching knows a block by its tokens and the block before it. It is
enough to give each prompt's very first token another identity per adapter: all later blocks chain to it.
"""

from collections.abc import Callable

from transformers.generation.continuous_batching.cache import PagedAttentionCache
from transformers.generation.continuous_batching.requests import RequestState


class PrefixSalt:
    """Gives a (salt, token) pair a number that no token has; salt 0 leaves the token as it is."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[int, int], int] = {}

    def __call__(self, salt: int, tokens: list[int]) -> list[int]:
        """The tokens as the cache shall know them."""
        if salt == 0 or not tokens:
            return tokens
        first = self._numbers.setdefault((salt, tokens[0]), -1 - len(self._numbers))
        return [first, *tokens[1:]]


class SaltedCache(PagedAttentionCache):
    """The engine's cache, with `salt_of(request id)` (the number of its adapter) in each block's identity."""

    salt_of: Callable[[str], int]
    salted: PrefixSalt

    @classmethod
    def adopt(cls, cache: PagedAttentionCache, salt_of: Callable[[str], int]) -> "SaltedCache":
        """Turn a cache that transformers has just built into a salted one; its layout is the same."""
        cache.__class__ = cls
        assert isinstance(cache, SaltedCache)
        cache.salt_of, cache.salted = salt_of, PrefixSalt()
        return cache

    def search_prefix_match(self, request_id: str, prompt_ids: list[int]) -> int:
        return super().search_prefix_match(request_id, self.salted(self.salt_of(request_id), prompt_ids))

    def mark_complete_blocks(self, state: RequestState, complete_blocks: dict[str, int]) -> None:
        salt = self.salt_of(state.request_id)
        prompt = state.initial_tokens
        state.initial_tokens = self.salted(salt, prompt)
        try:
            super().mark_complete_blocks(state, complete_blocks)
        finally:
            state.initial_tokens = prompt
