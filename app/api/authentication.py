"""API key authentication of HTTP requests: who calls, as owner and as visitor."""

from dataclasses import dataclass, field

from starlette.requests import Request

from app.access.api_keys import ApiKeys
from app.access.client_address import ClientAddresses, address_of
from app.access.identity import ApiKey, guest_of, header_token
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
    addresses: ClientAddresses = field(default_factory=ClientAddresses)

    @property
    def asks_for_key(self) -> bool:
        return self.needs_key or bool(self.keys)

    def caller(self, request: Request) -> Caller:
        """Without keys everyone may come in, by their own token or else the address they come from.

        Raises WrongKey or BadToken.
        """
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        name = self.keys.name_of(key.strip()) if scheme.lower() == "bearer" else None
        if name is not None:
            return Caller(ApiKey(name), ApiKey(name))
        if self.asks_for_key:
            raise WrongKey
        token = header_token(request.headers)
        if token is None:
            return Caller("", address_of(request))
        guest = guest_of(token)
        self.addresses.note(guest, request.client.host if request.client else "")
        return Caller(guest, guest)
