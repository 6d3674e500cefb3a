"""What a URL leads to, read so strictly that no two readers could disagree about it. Pure."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import quote, urlsplit

import msgspec

from aurora_swarm.tools.refusal import RefusedError
from aurora_swarm.tools.web.addresses import Address

MAX_URL_CHARS = 2000

_DEFAULT_PORTS = {"http": 80, "https": 443}
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:]+)(?::([0-9]{1,5}))?")
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
# What the standard lets stand in a path and a query, and the mark of what is encoded already.
_LEFT_AS_IS = "!$%&'()*+,/:;=?@[]~"


class RefusedUrlError(RefusedError):
    """A URL that may not be fetched; the text is written for the model."""


class Target(msgspec.Struct, frozen=True):
    """Where a request goes.

    Args:
        scheme: ``http`` or ``https``.
        host: Name in lower case, or an address as it is usually written, without brackets.
        port: TCP port.
        path: Path and query, in ASCII.
        address: The address, where the host is one.
    """

    scheme: str
    host: str
    port: int
    path: str
    address: Address | None = None

    @property
    def place(self) -> str:
        """Host and port as grants name them; the port only where it is not the scheme's."""
        return self._shown_host if self.port == _DEFAULT_PORTS[self.scheme] else f"{self._shown_host}:{self.port}"

    @property
    def url(self) -> str:
        """The whole of it."""
        return f"{self.scheme}://{self.place}{self.path}"

    @property
    def _shown_host(self) -> str:
        return f"[{self.host}]" if isinstance(self.address, ipaddress.IPv6Address) else self.host


def target_of(url: str) -> Target:
    """Read a URL.

    Raises:
        RefusedUrlError: It is not plain http or https; it names a user; its host is written in an unusual way.
    """
    if len(url) > MAX_URL_CHARS:
        raise RefusedUrlError(f"the URL is longer than {MAX_URL_CHARS} characters")
    # Readers differ in what they skip or turn round; so nothing of it is allowed at all.
    if any(char <= " " or char in {"\\", "\x7f"} for char in url):
        raise RefusedUrlError("a URL holds no spaces, control characters or backslashes")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise RefusedUrlError(f"{url[:200]!r} is no URL") from None
    scheme = parts.scheme
    if scheme not in _DEFAULT_PORTS or not url[len(scheme) :].startswith("://"):
        raise RefusedUrlError("only http:// and https:// are fetched")
    if "@" in parts.netloc:
        raise RefusedUrlError("a URL names no user and no password")
    host, address, port = authority_of(parts.netloc)
    return Target(scheme, host, port or _DEFAULT_PORTS[scheme], _path(parts.path, parts.query), address)


def authority_of(text: str) -> tuple[str, Address | None, int | None]:
    """Host, its address where it is one, and the port where there is one.

    Raises:
        RefusedUrlError: It is written in an unusual way.
    """
    found = _AUTHORITY.fullmatch(text)
    if not found or (found[2] and not 0 < int(found[2]) < 65536):
        raise RefusedUrlError(f"{text[:100]!r} is no host, or no host and port")
    host, address = _host(found[1])
    return host, address, int(found[2]) if found[2] else None


def _host(text: str) -> tuple[str, Address | None]:
    if text.startswith("["):
        return _bracketed(text)
    host = text.lower().removesuffix(".")
    labels = host.split(".")
    if not text.isascii() or len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise RefusedUrlError(f"{text[:100]!r} is no host; write it in ASCII")
    # Whatever ends in a number is read as an IPv4 address by some, in octal, in hex or with parts left out.
    if re.fullmatch(r"[0-9]+|0x[0-9a-f]*", labels[-1]):
        try:
            address = ipaddress.IPv4Address(host)
        except ValueError:
            raise RefusedUrlError(f"{text[:100]!r} is an address in an unusual form") from None
        return str(address), address
    return host, None


def _bracketed(text: str) -> tuple[str, Address | None]:
    try:
        address = ipaddress.IPv6Address(text[1:-1])
    except ValueError:
        raise RefusedUrlError(f"{text[:100]!r} is no address") from None
    return str(address), address


def _path(path: str, query: str) -> str:
    whole = (path or "/") + (f"?{query}" if query else "")
    return quote(whole.encode("utf-8", "replace"), safe=_LEFT_AS_IS)
