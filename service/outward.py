"""Posts to addresses that callers named, and never to what is not meant for them.

A caller could name a machine that only this one can reach: a database, a printer, the
metadata of a cloud. So a name is resolved here, each address is checked, and the
connection goes to a checked address, whatever the name resolves to a moment later.
Redirects are not followed, proxies of the environment are not used, and nothing of what
was answered is read but its status.

httpx is imported with the first message, as most services never send any.
"""

import asyncio
import socket
import ssl
from collections.abc import Mapping, Sequence
from functools import cached_property
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
)
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx

TIMEOUT_SECONDS = 10.0  # for all of it: resolving, connecting, sending, the answer
_UNICAST = IPv6Network("2000::/3")  # all of IPv6 that is in use between networks
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052: an IPv4 address in the last 32 bits

Address = IPv4Address | IPv6Address
Networks = Sequence[IPv4Network | IPv6Network]


class UndeliverableError(Exception):
    """Why nothing was answered, in words for the caller."""


class AddressRefusedError(UndeliverableError):
    """The name leads to where nothing may be sent."""

    def __init__(self) -> None:
        super().__init__("the address is not public, and its network is not allowed")


class Outward:
    """Posts to public addresses, and to networks that the operator allows."""

    def __init__(self, allowed: Networks = ()) -> None:
        self._allowed = allowed

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        """Post once; returns the status of the answer.

        Raises:
            AddressRefusedError: no address of the host may be called.
            UndeliverableError: no answer in time, or none at all.
        """
        import httpx  # noqa: PLC0415 - see above

        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                return await self._post(httpx.URL(url), headers, body)
        except TimeoutError as error:
            reason = f"no answer within {TIMEOUT_SECONDS:g} seconds"
            raise UndeliverableError(reason) from error
        except httpx.HTTPError as error:
            reason = f"no answer: {str(error)[:200] or type(error).__name__}"
            raise UndeliverableError(reason) from error

    async def _post(
        self, url: "httpx.URL", headers: Mapping[str, str], body: bytes
    ) -> int:
        import httpx  # noqa: PLC0415 - see above

        host = url.raw_host.decode()
        addresses = await self._addresses(host, url.port or _port(url.scheme))
        async with httpx.AsyncClient(
            verify=self._trusted,
            trust_env=False,
            follow_redirects=False,
            timeout=TIMEOUT_SECONDS,
        ) as client:
            for address in addresses:
                # To the address, for the name: neither resolved a second time.
                request = client.build_request(
                    "POST",
                    url.copy_with(host=str(address)),
                    headers={**headers, "host": url.netloc.decode()},
                    content=body,
                    extensions={"sni_hostname": host},
                )
                try:
                    answer = await client.send(request, stream=True)
                except httpx.ConnectError:
                    if address == addresses[-1]:
                        raise
                    continue
                await answer.aclose()
                return answer.status_code
        raise AddressRefusedError

    async def _addresses(self, host: str, port: int) -> list[Address]:
        """Resolve a name to the addresses that may be called, best first."""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            reason = "the name of the host cannot be resolved"
            raise UndeliverableError(reason) from error
        return [
            address
            for *_, place in found
            if self._may_call(address := ip_address(str(place[0])))
        ]

    def _may_call(self, address: Address) -> bool:
        if any(address in network for network in self._allowed):
            return True
        return is_public(address)

    @cached_property
    def _trusted(self) -> ssl.SSLContext:
        import httpx  # noqa: PLC0415 - see above

        return httpx.create_ssl_context()


def is_public(address: Address) -> bool:
    """Say whether an address is one of the internet at large.

    An IPv4 address within one of IPv6 is judged by itself.
    """
    if isinstance(address, IPv6Address):
        inner = _inner(address)
        if inner is not None:
            return is_public(inner)
        if address not in _UNICAST:
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def _inner(address: IPv6Address) -> IPv4Address | None:
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


def _port(scheme: str) -> int:
    return 443 if scheme == "https" else 80
