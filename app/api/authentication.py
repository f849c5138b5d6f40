"""API key authentication of HTTP requests: who calls, as owner and as visitor."""

from dataclasses import dataclass

from starlette.requests import Request

from app.access.api_keys import ApiKeys
from app.access.client_address import address_of
from app.access.identity import ApiKey
from app.api.errors import WrongKey


@dataclass(frozen=True)
class Caller:
    """`owner` is whose tuned models are theirs; `visitor` whose fair share their answers count against."""

    owner: str
    visitor: str


@dataclass(frozen=True)
class Authentication:
    """With `keys` or `needs_key` only callers with a key may come in."""

    keys: ApiKeys
    needs_key: bool = False

    def caller(self, request: Request) -> Caller:
        """Raises WrongKey. Without keys everyone may come in, by the address they come from."""
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        name = self.keys.name_of(key.strip()) if scheme.lower() == "bearer" else None
        if name is not None:
            return Caller(ApiKey(name), ApiKey(name))
        if self.needs_key or self.keys:
            raise WrongKey
        return Caller("", address_of(request))
