"""AWS IoT's services behind reserved topics, answered by the one-machine cloud.

A device service has topics on which a vehicle asks and topics on which it is answered, all
of them the vehicle's own, and whoever has subscribed hears the answers. A private service
has topics that all clients share, and its answers go to the client that asked alone. What
anybody may ask says ``cloud.serve.policy``. Requests are handled in one thread, in the
order in which they came; a request is acknowledged when its outcome is stored, and
answered after that.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from cloud.errors import CloudError
from cloud.provisioning.ports import Principal, PrincipalKind
from cloud.serve.ingest import Settled
from cloud.stores.announcements import Announcement

MAX_IN_FLIGHT: Final = 10
"""Requests that a connection may have in progress, as on AWS IoT Core; more are refused."""
LOOK_EVERY_S: Final = 0.5

log = logging.getLogger(__name__)

Tell = Callable[[Announcement], Awaitable[None]]
"""Publishes to whoever has subscribed."""


Work = Callable[[bytes], Sequence[Announcement]]


@dataclass(frozen=True, slots=True)
class Client:
    """Who asks: one connection; ``tell`` publishes to it alone."""

    principal: Principal
    client_id: str
    tell: Tell


class DeviceService(Protocol):
    """One service; called in the services' thread, one call at a time."""

    def takes(self, vehicle_id: str, topic: str) -> bool:
        """Whether this is a request for this service; pure, called from the event loop."""
        ...

    def answer(self, vehicle_id: str, topic: str, payload: bytes) -> Sequence[Announcement]:
        """Carry a request out; what there is to tell, the answer first."""
        ...

    def refuse(self, vehicle_id: str, topic: str, payload: bytes) -> Sequence[Announcement]:
        """Too many requests are in progress: refuse this one."""
        ...

    def news(self) -> Sequence[Announcement]:
        """What others have changed since the last time.

        Raises:
            StoreError: it cannot be known now; it is asked again.
        """
        ...


class PrivateService(Protocol):
    """One service on topics that clients share; called as ``DeviceService`` is."""

    def takes(self, topic: str) -> bool:
        """Whether this is a request for this service; pure, called from the event loop."""
        ...

    def answer(self, client: Client, topic: str, payload: bytes) -> Sequence[Announcement]:
        """Carry a request out; what to answer."""
        ...

    def refuse(self, client: Client, topic: str) -> Sequence[Announcement]:
        """Too many requests are in progress: refuse this one."""
        ...


class DeviceServices:
    """All services; lives in the event loop."""

    def __init__(
        self,
        services: Sequence[DeviceService],
        tell: Tell,
        private: Sequence[PrivateService] = (),
    ) -> None:
        self._services = services
        self._private = private
        self._tell = tell
        self._in_flight: Counter[str] = Counter()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="device-services")
        self._tasks: set[asyncio.Task[None]] = set()
        self._watch: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()

    def start(self) -> None:
        """Begin to look for news."""
        self._watch = asyncio.create_task(self._watch_news(), name="device-news")

    async def stop(self) -> None:
        """Finish what was asked; idempotent."""
        if self._watch is not None:
            self._watch.cancel()
            with suppress(asyncio.CancelledError):
                await self._watch
            self._watch = None
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(self._thread.shutdown)

    def take(self, client: Client, topic: str, payload: bytes, settled: Settled) -> bool:
        """Take a request over if it is one; ``settled`` is called when it is carried out."""
        found = self._find(client, topic)
        if found is None:
            return False
        answer, refuse, tell = found
        self._in_flight[client.client_id] += 1
        work = answer if self._in_flight[client.client_id] <= MAX_IN_FLIGHT else refuse
        task = asyncio.create_task(
            self._carry_out(client, topic, partial(work, payload), tell, settled)
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    def _find(self, client: Client, topic: str) -> tuple[Work, Work, Tell] | None:
        for private in self._private:
            if private.takes(topic):
                return (
                    partial(private.answer, client, topic),
                    lambda _payload, private=private: private.refuse(client, topic),
                    client.tell,
                )
        if client.principal.kind is PrincipalKind.VEHICLE:
            name = client.principal.name
            for service in self._services:
                if service.takes(name, topic):
                    return (
                        partial(service.answer, name, topic),
                        partial(service.refuse, name, topic),
                        self._tell,
                    )
        return None

    async def _carry_out(
        self,
        client: Client,
        topic: str,
        work: Callable[[], Sequence[Announcement]],
        tell: Tell,
        settled: Settled,
    ) -> None:
        try:
            async with self._turn:  # answers leave in the order of the requests
                answers = await asyncio.get_running_loop().run_in_executor(self._thread, work)
                settled(True)  # noqa: FBT003  a callback's argument
                for one in answers:
                    await tell(one)
        except Exception:
            log.exception("a request of %s on %s failed", client.client_id, topic)
            settled(False)  # noqa: FBT003  likewise; it was not acknowledged
        finally:
            self._in_flight[client.client_id] -= 1
            if not self._in_flight[client.client_id]:
                del self._in_flight[client.client_id]

    async def _watch_news(self) -> None:
        failing = False
        while True:
            for service in self._services:
                try:
                    async with self._turn:
                        news = await asyncio.get_running_loop().run_in_executor(
                            self._thread, service.news
                        )
                        for one in news:
                            await self._tell(one)
                except CloudError as error:
                    if not failing:
                        log.error("operators' changes are told later: %s", error)  # noqa: TRY400  the reason is in the message
                    failing = True
                else:
                    failing = False
            await asyncio.sleep(LOOK_EVERY_S)
