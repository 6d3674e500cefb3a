"""Which addresses are the public internet. Pure.

A list of what is refused would be one special range behind; so IPv6 must lie in what is given out for the public
internet, and in none of its special parts, and IPv4 in none of the ranges that IANA lists as special.
"""

from __future__ import annotations

import ipaddress

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# https://www.iana.org/assignments/iana-ipv4-special-registry, and what clouds use inside of a public range.
_SPECIAL_4 = {
    "0.0.0.0/8": "this network",
    "10.0.0.0/8": "a private network",
    "100.64.0.0/10": "a carrier's network",
    "127.0.0.0/8": "this machine",
    "168.63.129.16/32": "a cloud's metadata",
    "169.254.0.0/16": "the local link, or a cloud's metadata",
    "172.16.0.0/12": "a private network",
    "192.0.0.0/24": "reserved",
    "192.0.2.0/24": "for documentation",
    "192.31.196.0/24": "reserved",
    "192.52.193.0/24": "reserved",
    "192.88.99.0/24": "6to4",
    "192.168.0.0/16": "a private network",
    "192.175.48.0/24": "reserved",
    "198.18.0.0/15": "for benchmarks",
    "198.51.100.0/24": "for documentation",
    "203.0.113.0/24": "for documentation",
    "224.0.0.0/4": "multicast",
    "240.0.0.0/4": "reserved",
}
_PUBLIC_6 = ipaddress.IPv6Network("2000::/3")
# https://www.iana.org/assignments/iana-ipv6-special-registry, within the public range.
_SPECIAL_6 = {
    "2001::/23": "reserved, or a tunnel (Teredo, ORCHID)",
    "2001:db8::/32": "for documentation",
    "2002::/16": "6to4",
    "2620:4f:8000::/48": "reserved",
    "3fff::/20": "for documentation",
}
# Outside of the public range, for a better word than "reserved".
_NAMED_6 = {
    "::/128": "this machine",
    "::1/128": "this machine",
    "::ffff:0:0/96": "an IPv4 address in disguise",
    "::/96": "an IPv4 address in disguise",
    "64:ff9b::/96": "an IPv4 address in disguise (NAT64)",
    "64:ff9b:1::/48": "an IPv4 address in disguise (NAT64)",
    "fc00::/7": "a private network",
    "fe80::/10": "the local link",
    "fec0::/10": "a private network",
    "ff00::/8": "multicast",
}


def _networks(named: dict[str, str]) -> list[tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, str]]:
    return [(ipaddress.ip_network(network), name) for network, name in named.items()]


_NETWORKS_4 = _networks(_SPECIAL_4)
_NETWORKS_6 = _networks(_SPECIAL_6)
_NETWORKS_6_NAMED = _networks(_NAMED_6)


def not_public(address: Address) -> str:
    """What an address belongs to instead of the public internet; empty when it is public."""
    if isinstance(address, ipaddress.IPv4Address):
        return _named(address, _NETWORKS_4)
    if address not in _PUBLIC_6:
        return _named(address, _NETWORKS_6_NAMED) or "reserved"
    return _named(address, _NETWORKS_6)


def _named(address: Address, networks: list[tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, str]]) -> str:
    return next((name for network, name in networks if address in network), "")
