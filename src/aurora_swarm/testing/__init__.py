"""For users and us: virtual time, a scripted transport, servers that fail on demand, contract suites."""
