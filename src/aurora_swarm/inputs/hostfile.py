"""Hostfiles: which servers there are.

One endpoint per line, in any of three forms::

    node1:8000 role=critic rack=7           # separated by spaces
    node2<TAB>8000<TAB>role=author          # separated by tabs
    https://[2001:db8::1]:8443/base role=judge

A missing port is 8000, and 443 for ``https``; in the tab form the port is never missing. A final
``/v1`` of a base path is dropped, because the wires add it. A comment starts with ``#`` at the
start of a line or after a space. Blank lines, Windows line ends and a byte order mark are fine.
Each address may stand there once. Neither keys nor values of tags hold spaces.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from aurora_swarm.errors import HostfileError, InputError
from aurora_swarm.inputs.files import StrPath, read_text, replace_file, show
from aurora_swarm.values.endpoint import AgentEndpoint

_DEFAULT_PORTS: dict[str, int] = {"http": 8000, "https": 443}
_LIMIT_BYTES = 16 * 2**20
_LIMIT_LINE_CHARS = 8192
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_PATH = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:/-]|%[0-9A-Fa-f]{2})*")
_FORM = "write one endpoint per line: host:port key=value ..."


def parse_hostfile(path: StrPath) -> list[AgentEndpoint]:
    """Read the endpoints of a hostfile, in the order of its lines.

    Raises:
        HostfileError: The file cannot be read, names no endpoint, or has bad lines; every bad line is
            listed with its number and its remedy, the first as the error itself and the rest in `others`.
    """
    # Undecodable bytes pass as lone surrogates, so that their lines are listed among the other bad ones.
    text = read_text(path, HostfileError, limit_bytes=_LIMIT_BYTES, errors="surrogateescape")
    return parse_hostfile_text(text, str(path))


def parse_hostfile_text(text: str, source: str) -> list[AgentEndpoint]:
    """Like `parse_hostfile`, for text at hand.

    Args:
        text: The content of a hostfile.
        source: What errors call it.

    Raises:
        HostfileError: As in `parse_hostfile`.
    """
    endpoints: list[AgentEndpoint] = []
    bad: list[HostfileError] = []
    first_lines: dict[tuple[object, ...], int] = {}
    for number, content in _lines(text):
        try:
            endpoint = _parse_line(content)
            _refuse_second(endpoint, number, first_lines)
        except InputError as error:
            bad.append(_placed(error, source, number))
        else:
            endpoints.append(endpoint)
    if bad and not endpoints:
        _refuse_other_format(text, source)
    if bad:
        raise HostfileError.all_of(bad)
    if not endpoints:
        raise HostfileError("names no endpoint", source=source, remedy=_FORM)
    return endpoints


def parse_endpoint(text: str) -> AgentEndpoint:
    """Read one address without tags: ``host``, ``host:port``, ``[ipv6]:port`` or an ``http(s)`` URL.

    Raises:
        InputError: It is no such address; the error has a column and no source.
    """
    _check_characters(text)
    tokens = _tokens(text)
    if len(tokens) != 1:
        found = "nothing" if not tokens else show(text)
        raise InputError(f"expected one address, found {found}", remedy="write host:port, or http://host:port")
    return _parse_address(tokens[0])


def write_hostfile(path: StrPath, endpoints: Iterable[AgentEndpoint]) -> None:
    """Write a hostfile that `parse_hostfile` reads back as exactly these endpoints.

    Atomic and durable: a reader sees the old file or the new one, never a part.

    Raises:
        HostfileError: There are no endpoints, or one cannot be written: a space in a tag, an invalid host,
            an address that occurs twice. Every such endpoint is named by its position; nothing is written.
        StorageError: The system refused to write.
    """
    listed = list(endpoints)
    bad = [error for index, endpoint in enumerate(listed) if (error := _check_writable(index, endpoint))]
    text = "".join(_line_of(endpoint) + "\n" for endpoint in listed)
    if bad:
        raise HostfileError.all_of(bad)
    parse_hostfile_text(text, f"{path} (not written)")  # finds no endpoints, and the same address twice
    replace_file(path, text.encode())


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines that hold more than a comment, with their numbers and without the comment."""
    for number, line in enumerate(re.split(r"\r\n|\n|\r", text.removeprefix("\ufeff")), 1):
        content = re.sub(r"(^|[ \t])#.*", "", line, flags=re.DOTALL)
        if content.strip(" \t"):
            yield number, content


def _refuse_second(endpoint: AgentEndpoint, line: int, first_lines: dict[tuple[object, ...], int]) -> None:
    try:
        host = ipaddress.ip_address(endpoint.host).compressed
    except ValueError:
        host = endpoint.host.lower()
    first = first_lines.setdefault((host, endpoint.port, endpoint.path), line)
    if first != line:
        raise InputError(f"{endpoint.url} stands in line {first} already", remedy="keep one of the two lines")


def _placed(error: InputError, source: str, line: int) -> HostfileError:
    return HostfileError(error.problem, source=source, line=line, column=error.column, remedy=error.remedy)


def _refuse_other_format(text: str, source: str) -> None:
    """One error instead of one per line, when not one line is an endpoint and the file is plainly something else."""
    number, content = next(_lines(text))
    if kind := _other_format(content):
        raise HostfileError(f"this file holds {kind}, not endpoints", source=source, line=number, remedy=_FORM)


def _other_format(content: str) -> str:
    found = re.match(r"[ \t]*(?:(<)|[{}\"\]]|\[[ \t]*(?:[\[{\"]|$))", content)
    return ("HTML or XML" if found.group(1) else "JSON") if found else ""


def _parse_line(content: str) -> AgentEndpoint:
    _check_characters(content)
    if kind := _other_format(content):
        raise InputError(f"this is {kind}, not an endpoint", column=1, remedy=_FORM)
    address, *rest = _tokens(content)
    if rest and "\t" in content[address.end : rest[0].start] and not _has_port(address.text):
        if "=" in rest[0].text:
            problem, remedy = f"the port of {show(address.text)} is missing", "write host<TAB>port<TAB>key=value"
            raise InputError(problem, column=rest[0].column, remedy=remedy)
        _refuse_credentials(address)
        port = _parse_port(rest[0])
        bracketed = address.text.startswith("[")
        endpoint = AgentEndpoint(_parse_bracketed(address, port)[0] if bracketed else _parse_host(address), port)
        rest = rest[1:]
    else:
        endpoint = _parse_address(address)
    return AgentEndpoint(endpoint.host, endpoint.port, _parse_tags(rest), endpoint.scheme, endpoint.path)


def _check_characters(content: str) -> None:
    if len(content) > _LIMIT_LINE_CHARS:
        raise InputError(f"{len(content)} characters, more than the {_LIMIT_LINE_CHARS} of a line", remedy=_FORM)
    for column, character in enumerate(content, 1):
        category = unicodedata.category(character)
        if category == "Cs":
            raise InputError("bytes that are not UTF-8", column=column, remedy="save the file as UTF-8")
        if category == "Cc" and character != "\t":
            raise InputError(f"control character {character!a}", column=column, remedy="remove it")


class _Token(NamedTuple):
    """A word of a line.

    Args:
        text: The word.
        start: 0-based position in the line.
    """

    text: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)

    @property
    def column(self) -> int:
        return self.start + 1

    def part(self, start: int, end: int | None = None) -> _Token:
        return _Token(self.text[start:end], self.start + start)

    def refused(self, problem: str, remedy: str) -> InputError:
        return InputError(problem, column=self.column, remedy=remedy)


def _tokens(content: str) -> list[_Token]:
    return [_Token(m.group(), m.start()) for m in re.finditer(r"[^ \t]+", content)]


def _parse_tags(tokens: list[_Token]) -> dict[str, str]:
    tags: dict[str, str] = {}
    for token in tokens:
        key, equals, value = token.text.partition("=")
        if not equals and re.fullmatch(r"[0-9]+", token.text):
            raise token.refused(f"{show(token.text)} is not a tag", "join host and port with a colon: host:port")
        if not equals:
            remedy = "write key=value; neither may hold spaces, and a comment starts with #"
            raise token.refused(f"{show(token.text)} is not a tag", remedy)
        if not key:
            raise token.refused(f"{show(token.text)} has no key", "write key=value")
        if key in tags:
            raise token.refused(f"the tag {show(key)} is given twice", "keep one of the two")
        tags[key] = value
    return tags


def _parse_address(token: _Token) -> AgentEndpoint:
    _refuse_credentials(token)
    if url := _SCHEME.match(token.text):
        return _parse_url(token, url.group(1), url.end())
    if "/" in token.text:
        remedy = f"write http://{token.text} if it has a base path" if len(token.text) < 60 else "write a URL"
        raise token.refused(f"{show(token.text)} has a path but no scheme", remedy)
    host, port = _parse_authority(token, 8000)
    return AgentEndpoint(host, port)


def _refuse_credentials(token: _Token) -> None:
    if "@" in token.text:
        raise token.refused("the address holds credentials", "remove them; a key is given in AURORA_SWARM_API_KEY")


def _parse_url(token: _Token, written: str, start: int) -> AgentEndpoint:
    scheme: Literal["http", "https"]
    match written.lower():
        case "http" | "https" as scheme:
            pass
        case other:
            raise token.refused(f"{show(other)} is no scheme of an endpoint", "use http:// or https://")
    rest = token.part(start)
    if found := re.search(r"[?#]", rest.text):
        kind = "a query" if found.group() == "?" else "a fragment"
        raise rest.part(found.start()).refused(f"a URL with {kind}", "end the URL with the base path")
    slash = rest.text.find("/")
    authority, path = (rest, "") if slash < 0 else (rest.part(0, slash), rest.text[slash:])
    end = len(authority.text) + sum(len(piece) for piece in _PATH.findall(path)[:1])
    if end < len(rest.text):
        raise rest.part(end).refused(f"{show(rest.text[end])} in a base path", "write it percent-encoded")
    host, port = _parse_authority(authority, _DEFAULT_PORTS[scheme])
    return AgentEndpoint(host, port, scheme=scheme, path=path.rstrip("/").removesuffix("/v1").rstrip("/"))


def _has_port(address: str) -> bool:
    """Whether an address has a port or scheme of its own, so that a tab behind it is a mere space."""
    if address.startswith("["):
        return "]:" in address
    return address.count(":") == 1 or "://" in address


def _parse_authority(token: _Token, default_port: int) -> tuple[str, int]:
    if token.text.startswith("["):
        return _parse_bracketed(token, default_port)
    if token.text.count(":") > 1:
        remedy = "put an IPv6 address in brackets: [::1]:8000"
        raise token.refused(f"{show(token.text)} may be an address or an address with a port", remedy)
    host, colon, _ = token.text.partition(":")
    checked = _parse_host(token.part(0, len(host)))
    return checked, _parse_port(token.part(len(host) + 1)) if colon else default_port


def _parse_bracketed(token: _Token, default_port: int) -> tuple[str, int]:
    close = token.text.find("]")
    if close < 0:
        raise token.refused(f"{show(token.text)} lacks its closing bracket", "write [address]:port")
    host = _parse_ipv6(token.part(1, close))
    rest = token.part(close + 1)
    if rest.text and not rest.text.startswith(":"):
        raise rest.refused(f"{show(rest.text)} after an address", "write [address]:port")
    return host, _parse_port(rest.part(1)) if rest.text else default_port


def _parse_ipv6(token: _Token) -> str:
    try:
        if "%" not in token.text:
            ipaddress.IPv6Address(token.text)
            return token.text
    except ValueError:
        pass
    remedy = "an interface (%eth0) cannot be given" if "%" in token.text else "brackets are for IPv6 addresses alone"
    raise token.refused(f"{show(token.text)} is not an IPv6 address", remedy)


def _parse_host(token: _Token) -> str:
    host = token.text
    if not host:
        raise token.refused("the host is empty", "write host:port")
    if ":" in host:
        return _parse_ipv6(token)
    if re.fullmatch(r"[0-9.]+", host):
        return _parse_ipv4(token)
    for label in host.removesuffix(".").split("."):
        if not _LABEL.fullmatch(label):
            remedy = "a host has letters, digits, dots and hyphens; write other scripts in their xn-- form"
            raise token.refused(f"{show(host)} is not a host", remedy)
    if len(host) > 253:
        raise token.refused(f"a host of {len(host)} characters", "a host has 253 characters at most")
    return host


def _parse_ipv4(token: _Token) -> str:
    try:
        ipaddress.IPv4Address(token.text)
    except ValueError as exc:
        remedy = "write host:port; an IPv4 address has four numbers from 0 to 255"
        raise token.refused(f"{show(token.text)} is not a host", remedy) from exc
    return token.text


def _parse_port(token: _Token) -> int:
    if not token.text:
        raise token.refused("the port is empty", "write host:port, or leave the colon out for port 8000")
    if re.fullmatch(r"[0-9]{1,9}", token.text) and 1 <= int(token.text) <= 65535:
        return int(token.text)
    number = re.fullmatch(r"[-+]?[0-9]+", token.text)
    problem = f"port {show(token.text)} is {'out of range' if number else 'not a number'}"
    raise token.refused(problem, "a port is a whole number from 1 to 65535")


def _line_of(endpoint: AgentEndpoint) -> str:
    plain = endpoint.scheme == "http" and not endpoint.path
    address = endpoint.url.removeprefix("http://") if plain else endpoint.url
    return " ".join([address, *(f"{key}={value}" for key, value in endpoint.tags.items())])


def _check_writable(index: int, endpoint: AgentEndpoint) -> HostfileError | None:
    try:
        written = list(_lines(_line_of(endpoint)))
        if len(written) == 1 and _parse_line(written[0][1]) == endpoint:
            return None
        problem = "would be read back as something else"
    except InputError as error:
        problem = error.problem
    remedy = "a hostfile has no spaces in tags, no # before a key, no final slash or /v1 in a base path"
    return HostfileError(
        f"{show(endpoint.url)} cannot be written: {problem}", field=f"endpoints[{index}]", remedy=remedy
    )
