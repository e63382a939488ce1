"""The edge between two operators: its capacity and its one policy live here, and every drop is counted.

An edge is a deque of batches with one consumer. That is what makes it several times cheaper than an
``asyncio.Queue``, which wakes a task for every message. ``push`` never waits: a producer that has overfilled a
``block`` edge waits *afterwards*, so a capacity may be exceeded by what one call of one handler gives.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, Literal

from pipeline.message import Bound, Message
from pipeline.metrics import EdgeMetrics
from pipeline.time import stamp

Policy = Literal["block", "latest", "drop_oldest"]
"""``block``: the producer waits. ``latest``: only the newest message of each stream is kept. ``drop_oldest``: a
full edge forgets its oldest message."""

Item = Message[Any] | Bound


class Wakeup:
    """One sleeping task, woken by any of several edges. Not thread-safe: call ``set`` on the event loop."""

    __slots__ = ("future", "loop")

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[None] | None = None

    def set(self) -> None:
        future = self.future
        if future is not None:
            self.future = None
            if not future.done():
                future.set_result(None)

    async def wait(self) -> None:
        """Sleep until the next ``set``. The caller checks its condition first and again afterwards."""
        future = self.future = self.loop.create_future()
        await future


class Edge:
    """A bounded queue between two operators.

    What is pushed together stays together: the queue holds batches, so that a busy edge costs a list operation for
    many messages rather than for each. ``close`` says that nothing will follow; the consumer sees it after the last
    item. A batch is never changed once it is pushed: several edges may hold the same list.
    """

    __slots__ = (
        "blocked_since", "bounds", "capacity", "closed", "consumer", "metrics", "name", "policy", "producers", "queue",
        "size",
    )  # fmt: skip

    def __init__(self, name: str, consumer: Wakeup, *, capacity: int = 64, policy: Policy = "block") -> None:
        if capacity < 1:
            raise ValueError(f"edge {name}: capacity must be at least 1, not {capacity}")
        self.name, self.capacity, self.policy, self.consumer = name, capacity, policy, consumer
        self.queue: deque[Sequence[Item]] = deque()
        self.size = 0
        """Messages in the queue; bounds are not counted."""
        self.bounds = 0
        """Bounds in the queue or in the consumer's hand: with none, a batch need not be looked through."""
        self.closed = False
        self.producers: list[Wakeup] = []
        self.blocked_since: int | None = None
        self.metrics = EdgeMetrics(name)

    def push(self, batch: Sequence[Message[Any]]) -> None:
        """Take in a batch, applying the policy. Never waits."""
        self.metrics.pushed += len(batch)
        if self.policy == "latest":
            self._keep_latest(batch)
        else:
            self.queue.append(batch)
            self.size += len(batch)
            if self.policy == "drop_oldest" and self.size > self.capacity:
                self._drop_oldest()
        if self.consumer.future is not None:
            self.consumer.set()

    def bound(self, time: int) -> None:
        """Promise that nothing before ``time`` follows. A newer promise replaces one that is still waiting."""
        queue = self.queue
        if queue and type(queue[-1][-1]) is Bound:
            queue[-1] = (*queue[-1][:-1], Bound(time))
        else:
            queue.append((Bound(time),))
            self.bounds += 1
        self.consumer.set()

    def close(self) -> None:
        self.closed = True
        self.consumer.set()

    def take(self, limit: int) -> Sequence[Item]:
        """About ``limit`` items, oldest first; empty when there is nothing."""
        queue = self.queue
        if not queue:
            return ()
        items: Sequence[Item] = queue.popleft()
        if len(items) > limit:
            queue.appendleft(items[limit:])
            items = items[:limit]
        elif queue and len(items) + len(queue[0]) <= limit:
            items = list(items)
            while queue and len(items) + len(queue[0]) <= limit:
                items.extend(queue.popleft())
        self.size -= len(items) if not self.bounds else sum(type(item) is not Bound for item in items)
        if self.producers and self.size < self.capacity:
            self._wake_producers()
        return items

    @property
    def full(self) -> bool:
        """True where a producer has to wait: only ever for ``block``."""
        return self.size >= self.capacity and self.policy == "block" and not self.closed

    async def room(self, producer: Wakeup) -> None:
        """Wait until the consumer has made room, or has gone."""
        while self.full:
            if self.blocked_since is None:
                self.blocked_since = stamp()
            if producer not in self.producers:
                self.producers.append(producer)
            self.metrics.blocked += 1
            await producer.wait()

    def _wake_producers(self) -> None:
        if self.blocked_since is not None:
            self.metrics.blocked_nanoseconds += stamp() - self.blocked_since
            self.blocked_since = None
        producers, self.producers = self.producers, []
        for producer in producers:
            producer.set()

    def _items(self) -> list[Item]:
        """Everything in the queue as one batch, out of the queue."""
        items = [item for batch in self.queue for item in batch]
        self.queue.clear()
        return items

    def _keep_latest(self, batch: Sequence[Message[Any]]) -> None:
        newest = {message.stream: message for message in batch}
        items = self._items()
        kept = [item for item in items if isinstance(item, Bound) or item.stream not in newest]
        self.metrics.dropped += len(items) - len(kept) + len(batch) - len(newest)
        self.size += len(kept) - len(items) + len(newest)
        self.queue.append([*kept, *newest.values()])

    def _drop_oldest(self) -> None:
        items = deque(self._items())
        while self.size > self.capacity:
            # A bound that is passed over loses nothing: every later bound promises more.
            if type(items.popleft()) is Bound:
                self.bounds -= 1
            else:
                self.size -= 1
                self.metrics.dropped += 1
        self.queue.append(list(items))
