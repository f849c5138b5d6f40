"""Client IP addresses of guests: who makes a new browser key is a new visitor, but at the same address."""

import ipaddress
import threading
from collections import OrderedDict

from starlette.requests import Request

from app.errors import StudioError

SHARE = 10  # visitors' allowances that one address may hold, so that a school behind one address is not shut out
MOST = 10_000  # visitors remembered, the newest
IPV6_PREFIX = 64  # one household has that many


class AddressSpent(StudioError):
    status = 429
    zh = "你所在的网络地址上所有访客合计的用量已满；请稍后再试。"
    en = "All visitors of your network address together have used up what is allowed; try again in a little while."


class ClientAddresses:
    """Thread-safe. Without `watched` nobody's address is kept."""

    def __init__(self, *, watched: bool = False) -> None:
        self._watched = watched
        self._of: OrderedDict[str, str] = OrderedDict()
        self._lock = threading.Lock()

    def note(self, visitor: str, host: str) -> None:
        """This visitor came from `host`. A private address is a proxy or the own network, and counts for nobody."""
        network = _network(host) if self._watched else ""
        if not network:
            return
        with self._lock:
            self._of[visitor] = network
            self._of.move_to_end(visitor)
            if len(self._of) > MOST:
                self._of.popitem(last=False)

    def of(self, visitor: str) -> str:
        """The network that is counted with this visitor; empty for none."""
        return self._of.get(visitor, "")


def address_of(request: Request) -> str:
    """Whom a request without any other identity counts for: the visitor's network, behind trusted proxies too."""
    host = request.client.host if request.client else ""
    network = _network_of(host)
    return f"address {network or host}"


def public_network(request: Request) -> str:
    """The network that a request comes from; empty for a private address, which counts for nobody."""
    return _network(request.client.host if request.client else "")


def _network(host: str) -> str:
    network = _network_of(host)
    return f"network {network}" if network and network.is_global else ""


def _network_of(host: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address
    prefix = IPV6_PREFIX if address.version == 6 else address.max_prefixlen
    return ipaddress.ip_network((address, prefix), strict=False)
