"""Where an operator runs when it may wait: on the loop, in a thread, in a process, or beside a CUDA stream.

A worker owns the operator instance and answers calls one at a time, so an operator is never entered twice at once
whatever its placement, and its results do not depend on where it runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import multiprocessing
import pickle
import queue
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Protocol

from pipeline import sharedmemory
from pipeline.message import Message
from pipeline.operator import Context, Operator, each, is_async

Answer = tuple[list[Message[Any]], int | None]
"""The messages of one call, and the event time at which the operator wants ``on_time``."""

Factory = Callable[[], Operator]


class Worker(Protocol):
    """Runs one operator instance."""

    async def start(self, state: dict[str, Any] | None) -> int | None:
        """Make the operator, ``setup``, and load ``state``. Returns its first wish for ``on_time``."""
        ...

    async def call(self, method: str, *arguments: Any) -> Answer:
        """Call a handler. Raises what the operator raises."""
        ...

    async def state(self) -> dict[str, Any]: ...

    async def stop(self) -> None:
        """``teardown`` and give back what ``start`` took."""
        ...


class LoopWorker:
    """Runs the operator on the event loop: for ``async`` handlers."""

    def __init__(self, factory: Factory) -> None:
        self.factory = factory
        self.operator: Operator | None = None

    async def start(self, state: dict[str, Any] | None) -> int | None:
        self.operator = operator = self.factory()
        result = operator.setup()
        if inspect.isawaitable(result):
            await result
        if state:
            operator.load_state(state)
        return operator.wake_at

    async def call(self, method: str, *arguments: Any) -> Answer:
        operator = self.operator
        assert operator is not None, "start() comes first"
        if method == "on_time":
            operator.wake_at = None
        result = getattr(operator, method)(*arguments)
        if inspect.isasyncgen(result):
            messages: list[Any] = [message async for message in result]
        else:
            if inspect.isawaitable(result):
                result = await result
            messages = list(each(result))
        return messages, operator.wake_at

    async def state(self) -> dict[str, Any]:
        assert self.operator is not None
        return self.operator.state()

    async def stop(self) -> None:
        operator, self.operator = self.operator, None
        if operator is not None:
            result = operator.teardown()
            if inspect.isawaitable(result):
                await result


class ThreadWorker:
    """Runs a ``LoopWorker`` in a thread of its own: for blocking calls such as a model on the CPU.

    A ``SimpleQueue`` in and ``call_soon_threadsafe`` out cost about half of ``asyncio.to_thread``.
    """

    def __init__(self, factory: Factory, name: str, wrap: Callable[[], contextlib.AbstractContextManager[Any]]) -> None:
        self.inner = LoopWorker(factory)
        self.name, self.wrap = name, wrap
        self.tasks: queue.SimpleQueue[tuple[asyncio.Future[Any], str, tuple[Any, ...]] | None] = queue.SimpleQueue()
        self.thread: threading.Thread | None = None

    async def start(self, state: dict[str, Any] | None) -> int | None:
        self.loop = asyncio.get_running_loop()
        self.thread = threading.Thread(target=self._serve, name=f"vigil-{self.name}", daemon=True)
        self.thread.start()
        wish: int | None = await self._ask("start", state)
        return wish

    async def call(self, method: str, *arguments: Any) -> Answer:
        answer: Answer = await self._ask("call", method, *arguments)
        return answer

    async def state(self) -> dict[str, Any]:
        state: dict[str, Any] = await self._ask("state")
        return state

    async def stop(self) -> None:
        if self.thread is not None and self.thread.is_alive():
            try:
                await self._ask("stop")
            finally:
                self.tasks.put(None)
        self.thread = None

    async def _ask(self, method: str, *arguments: Any) -> Any:
        future: asyncio.Future[Any] = self.loop.create_future()
        self.tasks.put((future, method, arguments))
        return await future

    def _serve(self) -> None:
        with self.wrap(), asyncio.Runner() as runner:
            while (task := self.tasks.get()) is not None:
                future, method, arguments = task
                try:
                    result = run_here(self.inner, runner, method, arguments)
                    answer: tuple[Any, BaseException | None] = (result, None)
                except BaseException as error:
                    answer = (None, error)
                with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits for this any more
                    self.loop.call_soon_threadsafe(_settle, future, *answer)
                del task, future, arguments, answer  # frames must not outlive their turn


def run_here(worker: LoopWorker, runner: asyncio.Runner, method: str, arguments: tuple[Any, ...]) -> Any:
    """Run a worker's method in this thread; without a task (about 50 microseconds) where the handler is not async."""
    coroutine = getattr(worker, method)(*arguments)
    if method == "call" and not is_async(getattr(worker.operator, arguments[0])):
        try:
            coroutine.send(None)
        except StopIteration as finished:
            return finished.value
        coroutine.close()
        raise RuntimeError(f"{arguments[0]} of {worker.operator} waits, but is not declared async")
    return runner.run(coroutine)


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error if isinstance(error, Exception) else RuntimeError(repr(error)))
    else:
        future.set_result(result)


class ProcessWorker:
    """Runs the operator in a child process; frames cross through ``sharedmemory.Ring``.

    A child that dies is an exception of the call it died in, so it is restarted like an operator that raised.
    """

    def __init__(self, operator: type[Operator], config: Any, name: str, context: Context) -> None:
        self.recipe = (operator, config, name, context)
        self.name = name
        self.gate = threading.Lock()
        self.process: multiprocessing.process.BaseProcess | None = None

    async def start(self, state: dict[str, Any] | None) -> int | None:
        spawn = multiprocessing.get_context("spawn")
        self.ring = sharedmemory.Ring()
        self.pipe, theirs = spawn.Pipe()
        shape = (self.ring.slots, self.ring.slot_bytes, self.ring.name)
        self.process = spawn.Process(
            target=_child, args=(theirs, shape, *self.recipe), name=f"vigil-{self.name}", daemon=True
        )
        await asyncio.to_thread(self.process.start)
        theirs.close()
        self.courier = ThreadCourier(self._round_trip, self.name)
        wish: int | None = await self.courier.ask(("start", state))
        return wish

    async def call(self, method: str, *arguments: Any) -> Answer:
        answer: Answer = await self.courier.ask(("call", method, *arguments))
        return answer

    async def state(self) -> dict[str, Any]:
        state: dict[str, Any] = await self.courier.ask(("state",))
        return state

    async def stop(self) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        try:
            if process.is_alive():
                await self.courier.ask(("stop",))
        finally:
            self.courier.close()
            self.pipe.close()
            await asyncio.to_thread(process.join, 2.0)
            if process.is_alive():
                process.kill()
                await asyncio.to_thread(process.join, 2.0)
            self.ring.close()

    def _round_trip(self, request: tuple[Any, ...]) -> Any:
        try:
            self.pipe.send_bytes(sharedmemory.dumps(request, self.ring))
            result, error = sharedmemory.loads(self.pipe.recv_bytes(), self.ring)
        except (EOFError, OSError) as fault:
            raise ChildProcessError(f"the process of operator {self.name!r} died") from fault
        if error is not None:
            raise error
        return result


class ThreadCourier:
    """Carries blocking requests to a thread and their answers back to the loop, in order."""

    def __init__(self, send: Callable[[Any], Any], name: str) -> None:
        self.send, self.loop = send, asyncio.get_running_loop()
        self.tasks: queue.SimpleQueue[tuple[asyncio.Future[Any], Any] | None] = queue.SimpleQueue()
        threading.Thread(target=self._serve, name=f"vigil-{name}", daemon=True).start()

    async def ask(self, request: Any) -> Any:
        future: asyncio.Future[Any] = self.loop.create_future()
        self.tasks.put((future, request))
        return await future

    def close(self) -> None:
        self.tasks.put(None)

    def _serve(self) -> None:
        while (task := self.tasks.get()) is not None:
            future, request = task
            result, error = None, None
            try:
                result = self.send(request)
            except BaseException as fault:
                error = fault
            with contextlib.suppress(RuntimeError):
                self.loop.call_soon_threadsafe(_settle, future, result, error)
            del task, future, request, result, error


def _child(
    pipe: Connection, shape: tuple[int, int, str], cls: type[Operator], config: Any, name: str, context: Context
) -> None:
    """The child process: a ``LoopWorker`` behind a pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides when we stop
    ring = sharedmemory.Ring(*shape)

    def factory() -> Operator:
        operator = cls(config, name=name)
        operator.context = context
        return operator

    worker = LoopWorker(factory)
    with asyncio.Runner() as runner:
        while True:
            try:
                method, *arguments = sharedmemory.loads(pipe.recv_bytes(), ring)
            except EOFError:
                return
            try:
                answer: tuple[Any, Exception | None] = (run_here(worker, runner, method, tuple(arguments)), None)
            except Exception as error:
                answer = (None, _portable(error))
            pipe.send_bytes(sharedmemory.dumps(answer, ring))
            del arguments, answer
            if method == "stop":
                return


def _portable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own exception, just dumped
        return error
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")


def no_context() -> contextlib.AbstractContextManager[Any]:
    """Nothing around the operator's thread."""
    return contextlib.nullcontext()


def cuda_stream() -> tuple[Callable[[], contextlib.AbstractContextManager[Any]] | None, str]:
    """A context that makes a CUDA stream of its own current, or None and the reason why there is none."""
    try:
        import torch
    except ImportError:
        return None, "torch is not installed"
    if not torch.cuda.is_available():
        return None, "no CUDA device"

    def stream() -> contextlib.AbstractContextManager[Any]:
        context: contextlib.AbstractContextManager[Any] = torch.cuda.stream(torch.cuda.Stream())  # type: ignore[no-untyped-call]
        return context

    return stream, ""
