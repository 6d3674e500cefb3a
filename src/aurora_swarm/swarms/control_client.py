"""Asks a run of this user over its control socket; blocking, for command lines and scripts."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Self

import msgspec

from aurora_swarm.errors import AttemptTimeoutError, AuroraSwarmError, ConnectionLostError, UsageError
from aurora_swarm.swarms.control import SwarmStatus
from aurora_swarm.swarms.control_wire import MOST_LINE, MOST_REPLY, SUFFIX, Reply, Request, control_folder

_NO_RUN = "start one, or see which there are: aurora-swarm ctl list"
_decode = msgspec.json.Decoder(Reply).decode
_encode = msgspec.json.Encoder().encode


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A run whose socket was found.

    Args:
        path: Its socket.
        status: What it says of itself; None when it does not answer.
        error: Why there is no status.
    """

    path: Path
    status: SwarmStatus | None = None
    error: AuroraSwarmError | None = None

    @property
    def id(self) -> str:
        """The run's id; the name of its socket as long as it has not said it."""
        return self.status.id if self.status is not None else self.path.name.removesuffix(SUFFIX)


class ControlClient:
    """A connection to one run, for any number of requests, one at a time.

    Args:
        path: The run's socket.
        timeout_s: Seconds for connecting, and for each request with its reply.

    Raises:
        UsageError: There is no run at the path.
        AttemptTimeoutError: It does not accept the connection in time.
    """

    def __init__(self, path: Path, *, timeout_s: float = 5.0) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self._received = bytearray()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout_s)
        try:
            self._socket.connect(str(path))
        except OSError as error:
            self._socket.close()
            if isinstance(error, TimeoutError | BlockingIOError):
                raise self._late() from error
            raise UsageError(f"no run answers at {path}", remedy=_NO_RUN) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection. May be called twice."""
        self._socket.close()

    def ask(self, request: Request) -> Reply:
        """Have one request answered.

        Raises:
            UsageError: The run refuses it; the sentence is the run's own.
            AttemptTimeoutError: There was no reply in time.
            ConnectionLostError: The run ended, or its reply is none. Whether an action was done is not known.
        """
        line = _encode(request) + b"\n"
        if len(line) > MOST_LINE:
            raise UsageError(
                f"a request is at most {MOST_LINE} bytes, this one has {len(line)}", remedy="say it shorter"
            )
        deadline = time.monotonic() + self._timeout_s
        try:
            self._socket.sendall(line)
            reply = _decode(self._line(deadline))
        except TimeoutError:
            raise self._late() from None
        except (OSError, EOFError, msgspec.DecodeError) as error:
            raise ConnectionLostError(
                "the run went away before it answered", endpoint=str(self._path), remedy="aurora-swarm ctl list"
            ) from error
        if not reply.ok:
            raise UsageError(reply.error, remedy=reply.remedy)
        return reply

    def _line(self, deadline: float) -> bytes:
        while (end := self._received.find(b"\n")) < 0:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise TimeoutError
            self._socket.settimeout(left_s)
            piece = self._socket.recv(256 * 1024)
            if not piece or len(self._received) > MOST_REPLY:
                raise EOFError
            self._received += piece
        line = bytes(self._received[:end])
        del self._received[: end + 1]
        return line

    def _late(self) -> AttemptTimeoutError:
        return AttemptTimeoutError(
            f"the run did not answer within {self._timeout_s:g} s",
            endpoint=str(self._path),
            remedy="try again; code that blocks the event loop of the run holds it up",
        )


def ask_run(path: Path, request: Request, *, timeout_s: float = 5.0) -> Reply:
    """Have one request answered, on a connection of its own.

    Raises:
        UsageError: There is no run at the path, or it refuses.
        AttemptTimeoutError: There was no reply in time.
        ConnectionLostError: The run ended. Whether an action was done is not known.
    """
    with ControlClient(path, timeout_s=timeout_s) as client:
        return client.ask(request)


def runs(folder: Path | None = None, *, timeout_s: float = 2.0) -> list[Run]:
    """The runs of this user, the oldest first; sockets that killed runs have left are taken away.

    Args:
        folder: Where their sockets are; `control_folder` when None.
        timeout_s: Seconds for each of them.
    """
    place = folder or control_folder()
    found = sorted(place.glob(f"*{SUFFIX}")) if place.is_dir() else []
    return [run for path in found if (run := _seen(path, timeout_s)) is not None]


def _seen(path: Path, timeout_s: float) -> Run | None:
    try:
        return Run(path=path, status=ask_run(path, Request(op="status"), timeout_s=timeout_s).status)
    except UsageError as error:
        if not isinstance(error.__cause__, ConnectionRefusedError):
            return Run(path=path, error=error) if path.exists() else None
        path.unlink(missing_ok=True)
        return None
    except AuroraSwarmError as error:
        return Run(path=path, error=error) if path.exists() else None


def find_run(wanted: str | None, folder: Path | None = None) -> Path:
    """The socket of the run that is meant.

    Args:
        wanted: A run's id, the beginning or the end of one, or the path of a socket; None for the only run there is.
        folder: As for `runs`.

    Raises:
        UsageError: No run, or more than one, is meant.
    """
    if wanted is not None and ("/" in wanted or wanted.endswith(SUFFIX)):
        return Path(wanted)
    there = runs(folder)
    meant = there if wanted is None else [r for r in there if r.id == wanted] or _like(wanted, there)
    if len(meant) == 1:
        return meant[0].path
    names = ", ".join(run.id for run in (meant or there)[:10])
    if not there:
        raise UsageError(
            "no run is under way that could be steered", remedy="start one, or name the socket of one: --run PATH"
        )
    if not meant:
        raise UsageError(f"no run is called {wanted}", remedy=f"there are: {names}")
    which = "are under way" if wanted is None else f"have an id like {wanted}"
    raise UsageError(f"{len(meant)} runs {which}", remedy=f"choose one with --run: {names}")


def _like(wanted: str, there: list[Run]) -> list[Run]:
    return [run for run in there if wanted and (run.id.startswith(wanted) or run.id.endswith(wanted))]
