"""What can be replayed: anything that gives messages in the total order, whatever file it comes from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

import msgspec

from pipeline.message import Message, Origin


class StreamInfo(msgspec.Struct, frozen=True):
    """What a file says about one of its streams."""

    stream: str
    """``port/channel``, port being ``video``, ``waveforms``, ``numerics`` or ``events`` for bare files."""
    payload: str
    """Name of the payload type, see ``pipeline.message.PAYLOADS``."""
    count: int
    """Messages in the stream; -1 where only reading it all would tell."""
    start: int
    """Event time of the first message, nanoseconds."""
    end: int
    """Event time at which the last message ends."""
    code: str = ""
    unit: str = ""
    rate: float = 0.0


@runtime_checkable
class Reader(Protocol):
    """A recorded case, opened. Registered by file suffix under the entry-point group ``vigil.readers``.

    The class is called with the path and raises ``RecordingError`` for a file that is not what it claims to be.
    A damaged file opens as far as it can be read; ``warnings`` says what was lost.
    """

    path: Path
    origin: Origin
    """What its messages' ``origin`` is: ``recorded`` for files, ``simulated`` for theatre cases."""
    warnings: list[str]

    def streams(self) -> list[StreamInfo]:
        """All streams, in name order."""
        ...

    def messages(
        self, start: int | None = None, end: int | None = None, *, streams: tuple[str, ...] = ("*",)
    ) -> Iterator[Message[object]]:
        """Messages with ``start <= time < end`` in the order of ``Message.order``. May be called again.

        ``streams`` are shell patterns over stream names: what is not asked for is neither decoded nor rendered.
        """
        ...

    def close(self) -> None:
        """Give back files and decoders."""
        ...
