"""How an operator is written. There is one way, and a small one takes ten lines::

    class PassThrough(Operator):
        input: Input[Any]
        output: Output[Any]

        def process(self, message: Message[Any]) -> Outputs:
            return message

Ports are annotations. Options are a pydantic ``Config``. ``process`` may be sync or async and returns a message,
an iterable of messages, or None. With several inputs there is either one handler a port (``on_<port>``) or an
``align`` that joins them in event time before ``process`` sees them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import re
import sys
import threading
import types
import typing
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import msgspec
import pydantic

from pipeline.message import Message, Payload, Rule

if typing.TYPE_CHECKING:
    from pipeline.align import Join
    from pipeline.time import Clock

Outputs = Message[Any] | Iterable[Message[Any]] | None
"""What ``process`` gives back (or an awaitable or async iterable of it)."""

NewPayload = TypeVar("NewPayload")


class Input(Generic[Payload]):
    """Annotation of an input port. ``Input[T] | None`` makes it optional."""


class Output(Generic[Payload]):
    """An output port: annotate with ``Output[T]``; on an instance it makes messages for its stream."""

    __slots__ = ("name", "sequences", "stream")

    def __init__(self, name: str, stream: str) -> None:
        self.name, self.stream = name, stream
        self.sequences: dict[str, int] = {}

    def emit(
        self, payload: Payload, cause: Message[Any], *, time: int | None = None, channel: str = ""
    ) -> Message[Payload]:
        """A message on this port caused by ``cause``: its event time (unless given), origin and trace."""
        stream = f"{self.stream}/{channel}" if channel else self.stream
        sequence = self.sequences.get(stream, 0)
        self.sequences[stream] = sequence + 1
        return cause.derive(payload, stream, sequence, time)

    def first(self, payload: Payload, time: int, *, channel: str = "", origin: Any = "live") -> Message[Payload]:
        """A message that no other message caused, as sources make them."""
        stream = f"{self.stream}/{channel}" if channel else self.stream
        sequence = self.sequences.get(stream, 0)
        self.sequences[stream] = sequence + 1
        return Message(stream, time, sequence, payload, origin)


@dataclasses.dataclass
class Port:
    """What a port annotation says."""

    name: str
    types: tuple[Any, ...]
    """The payload types it carries; ``(Any,)`` for anything."""
    required: bool = True


def _ports(cls: type) -> tuple[dict[str, Port], dict[str, Port]]:
    inputs: dict[str, Port] = {}
    outputs: dict[str, Port] = {}
    for base in reversed(cls.__mro__):
        scope = vars(sys.modules[base.__module__]) if base.__module__ in sys.modules else {}
        for name, hint in inspect.get_annotations(base).items():
            if isinstance(hint, str):
                if not re.match(r"(\w+\.)*(Input|Output|Optional)\b", hint):
                    continue
                hint = _evaluate(cls, name, hint, scope)
            required, bare = _optional(hint)
            origin = typing.get_origin(bare) or bare
            if origin is Input:
                inputs[name] = Port(name, _payload_types(bare), required)
            elif origin is Output:
                outputs[name] = Port(name, _payload_types(bare))
    return inputs, outputs


def _evaluate(cls: type, name: str, hint: str, scope: dict[str, Any]) -> Any:
    try:
        return eval(hint, scope)  # noqa: S307 - an annotation of our own source, as typing.get_type_hints does
    except NameError as error:
        raise TypeError(
            f"{cls.__name__}.{name}: {hint!r} cannot be resolved ({error}); import it at module level"
        ) from None


def _optional(hint: Any) -> tuple[bool, Any]:
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) in (typing.Union, types.UnionType) and type(None) in arguments:
        rest = [argument for argument in arguments if argument is not type(None)]
        if len(rest) == 1:
            return False, rest[0]
    return True, hint


def _payload_types(hint: Any) -> tuple[Any, ...]:
    arguments = typing.get_args(hint)
    if not arguments:
        return (Any,)
    inner = arguments[0]
    if typing.get_origin(inner) in (typing.Union, types.UnionType):
        return typing.get_args(inner)
    return (inner,)


class Config(pydantic.BaseModel):
    """Base of every operator's options: unknown names are errors, values are frozen, field docs become help."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


@dataclasses.dataclass
class Context:
    """What an operator may know of the run it is part of. Set before ``setup``."""

    clock: Clock
    room: str = "room"
    case: str = "case"
    topology: str = ""
    data: Path = Path()
    """Where the run may write."""
    replaying: bool = False
    """True in a replay: nothing may leave the run, no broker, no commands."""
    replay: str = ""
    """The command prefix that replays this run, for evidence."""
    tell: Callable[[str, Any], None] | None = None
    """Puts a payload on an input that the operator names in ``told``, from any thread. None in replays and in other
    processes: nothing reaches a run from outside there."""


class Operator:
    """One step of a graph. See the module's docstring.

    Life: ``__init__`` (cheap, no device) -> ``setup`` -> ``process`` ... -> ``teardown``. An operator that raises in
    ``process`` loses that one message, is torn down, and starts again with the last ``state`` it gave.
    """

    Config: ClassVar[type[pydantic.BaseModel]] = Config
    version: ClassVar[str] = "1"
    align: ClassVar[Join | None] = None
    """How several inputs are joined; None means one handler a port."""
    told: ClassVar[tuple[str, ...]] = ()
    """Optional inputs that are given messages from outside the graph, by ``context.tell`` and by the engine (which
    tells ``status`` every few seconds)."""
    accepts_synthetic: ClassVar[bool] = False
    """True only for what shows or stores generated pictures; perception and alerting must leave it False."""

    keeps_pictures: ClassVar[bool] = False
    """True for what stores pictures or shows them to people: only what a privacy guard has passed may reach it. An
    option ``unguarded`` of its own, where it has one, lets everything in."""
    guards_privacy: ClassVar[bool] = False
    """True for what hides people in pictures and hands on the rest."""

    inputs: ClassVar[dict[str, Port]] = {}
    outputs: ClassVar[dict[str, Port]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.inputs, cls.outputs = _ports(cls)

    def __init__(self, config: pydantic.BaseModel | None = None, *, name: str = "", **options: Any) -> None:
        self.config: Any = config if config is not None else self.Config(**options)
        self.name = name or snake(type(self).__name__)
        self.context: Context
        self.wake_at: int | None = None
        for port in self.outputs:
            setattr(self, port, Output(port, f"{self.name}.{port}"))

    # -- what an operator overrides

    def setup(self) -> Awaitable[None] | None:
        """Open devices, load models. May be async."""
        return None

    def process(self, message: Message[Any]) -> Any:
        """Handle one message (or one ``Aligned`` set). Returns ``Outputs``, or an awaitable of them."""
        raise NotImplementedError(f"{type(self).__name__} needs process()")

    def on_time(self, time: int) -> Any:
        """Called once event time has passed ``wake_at`` on every input, with that time. Returns ``Outputs``."""
        return None

    def finish(self) -> Any:
        """Called once when all inputs have ended, before ``teardown``: the last ``Outputs``."""
        return None

    def teardown(self) -> Awaitable[None] | None:
        """Close what ``setup`` opened. Called once for every ``setup``, also after a failure."""
        return None

    def state(self) -> dict[str, Any]:
        """Everything needed to go on after a restart, as plain JSON values."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what ``state`` gave."""

    # -- what an operator uses

    def wake(self, time: int | None) -> None:
        """Ask for ``on_time`` at event time ``time``; None takes the wish back. Replaces an earlier wish."""
        self.wake_at = time

    def rule(self) -> Rule:
        """The reference that an alert carries to this operator: class, version, and a digest of its options."""
        digest = hashlib.sha256(self.config.model_dump_json().encode()).hexdigest()[:16]
        return Rule(snake(type(self).__name__), self.version, digest)

    @classmethod
    def handlers(cls) -> dict[str, str]:
        """Input port to the name of the method that handles it."""
        if len(cls.inputs) <= 1 or cls.align is not None:
            return dict.fromkeys(cls.inputs, "process")
        return {port: f"on_{port}" for port in cls.inputs}


class Source(Operator):
    """An operator with no inputs. ``run`` is a generator of messages: sync ones get a thread of their own.

    ``live`` sources are devices: they are never made to wait; what a full edge cannot take is dropped there and
    counted. Sources that are not live (files, simulations) are paced by the engine in event time, and wait.
    """

    live: ClassVar[bool] = True
    films_people: ClassVar[bool] = True
    """False only for what is simulated: its pictures show nobody."""

    def __init__(self, config: pydantic.BaseModel | None = None, *, name: str = "", **options: Any) -> None:
        super().__init__(config, name=name, **options)
        self.stopping = threading.Event()
        """Set when the run ends: a source that waits must look at it at least four times a second."""

    def run(self) -> Iterable[Message[Any]] | AsyncIterable[Message[Any]]:
        """Yield messages in event-time order per stream until the source ends or the engine stops it."""
        raise NotImplementedError(f"{type(self).__name__} needs run()")

    def process(self, message: Message[Any]) -> Any:
        raise TypeError(f"{self.name} is a source and has no inputs")


def snake(name: str) -> str:
    """``HeartRateLimit`` -> ``heart_rate_limit``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def is_async(handler: Callable[..., Any]) -> bool:
    """True for ``async def`` handlers, with or without ``yield``."""
    return inspect.iscoroutinefunction(handler) or inspect.isasyncgenfunction(handler)


def each(outputs: Outputs) -> Iterator[Message[Any]]:
    """The messages of a handler's answer, one by one."""
    if outputs is None:
        return
    if isinstance(outputs, Message):
        yield outputs
    else:
        yield from outputs


def to_plain(value: Any) -> Any:
    """Structs, enums and tuples as plain JSON values, for ``state``."""
    return msgspec.to_builtins(value)
