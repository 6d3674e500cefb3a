"""Workers on a Ray cluster: Ray places and restarts them, and carries nothing else.

Nothing of a worker's work goes through Ray: not a result, not an object. So its known traps cannot lose or double
anything: a streaming generator with retries loses items, and a raylet that is killed leaves its worker alive, which
then works beside the one that took its place until the store refuses it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError

from aurora_swarm.engines.ending import end
from aurora_swarm.engines.local import unusable
from aurora_swarm.engines.ray_worker import RayWorker
from aurora_swarm.engines.restarts import pause_s
from aurora_swarm.errors import EngineError, UsageError

_T = TypeVar("_T")
_OBJECT_STORE_BYTES = 80_000_000
"""About the least that Ray takes; it would take a third of the memory for objects that nobody puts there."""
_GONE_S = 10.0
_REACH_S = 5.0
_MODE, _TOKEN, _TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"


class RayEngine:
    """Runs copies as actors that Ray restarts without limit; keeps the contract of `ports.engine.Engine`.

    An actor takes no CPU of the cluster's account, so that one can be restarted wherever a node is left. The actors are
    spread over the nodes, and end with this process, however it ends.

    Ray listens on all of a machine's addresses, and whoever it listens to can run code. So a cluster of its own asks
    for a token, which is made for it and kept in the environment of its processes alone, unless ``RAY_AUTH_MODE``
    says otherwise. A cluster that is joined is spoken to as Ray's variables say: ``RAY_AUTH_MODE``, ``RAY_AUTH_TOKEN``,
    ``RAY_AUTH_TOKEN_PATH``. `say` is told which it is.

    Args:
        address: Host and port of a cluster that runs; empty for that of ``RAY_ADDRESS``, or one of its own.
        say: Told in one line where the cluster is, and what died.

    Raises:
        UsageError: The address is that of Ray Client.
    """

    def __init__(self, address: str, say: Callable[[str], None]) -> None:
        self._address = address or os.environ.get("RAY_ADDRESS", "")
        if self._address.startswith("ray://"):
            raise UsageError(
                f"RAY_ADDRESS={self._address} is that of Ray Client, a proxy",
                remedy="set it to the address that `ray start` printed, and run on a node of the cluster",
            )
        self._say = say
        self._kept: set[asyncio.Task[None]] = set()
        # One thread until the end: Ray's processes end with the thread that began them.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ray")
        self._joining = asyncio.Lock()
        self._joined = self._is_ours = False

    async def keep(self, function: str, argument: str, copies: int) -> None:
        """Run copies of a worker until each has returned; cancelling ends all copies, and waits until Ray lost them.

        Raises:
            EngineError: The cluster cannot be reached or begun, or is gone; the function cannot be imported there; or
                what it was given is wrong.
        """
        async with self._joining:
            if not self._joined:
                await self._blocking(self._join)
                self._joined = True
        tasks = [asyncio.create_task(self._keep_one(n, function, argument)) for n in range(copies)]
        self._kept.update(tasks)
        try:
            await asyncio.gather(*tasks)
        finally:
            self._kept.difference_update(tasks)
            await end(tasks)

    async def aclose(self) -> None:
        """End what still runs and let go of the cluster; one of its own is ended. May be called twice."""
        await end(self._kept)
        if self._is_ours:
            self._is_ours = False
            await self._blocking(ray.shutdown)
        self._joined = False
        self._thread.shutdown(wait=False)

    # -- one copy ----------------------------------------------------------------------------------------------

    async def _keep_one(self, number: int, function: str, argument: str) -> None:
        loop = asyncio.get_running_loop()
        wait_s = 0.0
        while True:
            began = loop.time()
            error = await self._run(function, argument)
            if error is None:
                return
            cause = getattr(error, "cause", None)
            if isinstance(cause, EngineError | UsageError):
                raise unusable(cause) from error
            await self._blocking(_refuse_gone)
            wait_s = pause_s(loop.time() - began, wait_s)
            why = str(cause or error).strip().splitlines()[-1:] or [type(error).__name__]
            self._say(f"worker {number} died of {why[0]}; it is begun again in {wait_s:.1f} s")
            await asyncio.sleep(wait_s)

    async def _run(self, function: str, argument: str) -> RayError | None:
        """One life of a copy, restarts by Ray included; returns what it died of."""
        actor, ended = await self._blocking(lambda: _begin(function, argument))
        waiting = asyncio.ensure_future(_awaited(ended))
        try:
            return await asyncio.shield(waiting)
        finally:
            # Also one that has returned: it would keep its process until it is no longer referred to.
            await self._blocking(lambda: ray.kill(actor, no_restart=True))
            await asyncio.wait({waiting}, timeout=_GONE_S)
            waiting.cancel()

    async def _blocking(self, do: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, do)

    # -- the cluster, on the thread ----------------------------------------------------------------------------

    def _join(self) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            if not ray.is_initialized():
                if self._address:
                    _reach(self._address)
                    ray.init(self._address, logging_level=logging.ERROR, namespace="aurora-swarm")
                else:
                    _begin_cluster()
                self._is_ours = True
            nodes = _nodes()
        except Exception as error:
            where = f"the Ray cluster at {self._address} cannot be joined" if self._address else "Ray cannot be begun"
            raise EngineError(
                f"{where}: {_last_line(error)}",
                remedy="check the address, that this machine is one of its nodes, and Ray's token (RAY_AUTH_TOKEN)",
            ) from error
        where = f"the Ray cluster at {self._address}" if self._address else "a Ray cluster of its own"
        self._say(f"workers run on {where}, {nodes} node{'s' * (nodes != 1)}; {_authentication()}")


def _nodes() -> int:
    nodes: Any = ray.nodes  # it has no type
    return sum(bool(node["Alive"]) for node in nodes())


def _reach(address: str) -> None:
    """Raise at once where nothing listens; Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_REACH_S).close()


def _begin_cluster() -> None:
    """A cluster on this machine; it ends with this process."""
    if not any(name in os.environ for name in (_MODE, _TOKEN, _TOKEN_PATH)):
        # Ray would write one into the home folder, which may be shared or read-only, and leave it there.
        os.environ[_TOKEN] = secrets.token_hex(32)
    ray.init(
        "local",
        include_dashboard=False,
        logging_level=logging.ERROR,
        namespace="aurora-swarm",
        object_store_memory=_OBJECT_STORE_BYTES,
    )


def _authentication() -> str:
    if os.environ.get(_MODE, "").lower() == "token":
        return "token authentication is on"
    return "token authentication is off: whoever reaches its ports can run code there"


def _begin(function: str, argument: str) -> tuple[Any, Any]:
    """An actor that works, and what tells its end."""
    try:
        actor_class: Any = ray.remote(max_restarts=-1, max_task_retries=-1, num_cpus=0, scheduling_strategy="SPREAD")(
            RayWorker
        )
        actor = actor_class.remote()
        return actor, actor.work.remote(function, argument)
    except Exception as error:
        raise EngineError(f"Ray cannot begin a worker: {_last_line(error)}", remedy="look at the cluster") from error


async def _awaited(ended: Any) -> RayError | None:
    try:
        await ended
    except RayError as error:
        return error
    return None


def _refuse_gone() -> None:
    """Raise where there is no cluster any more."""
    with contextlib.suppress(Exception):
        if ray.is_initialized() and _nodes():
            return
    raise EngineError("the Ray cluster is gone", remedy="begin it again, then run again with the same run id")


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
