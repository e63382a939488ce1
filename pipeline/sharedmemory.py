"""Frames cross a process boundary by one copy into a slot of shared memory, and none after that.

A ``Ring`` belongs to one pair of processes that take turns (a request, then its answer). Large arrays are copied
into a free slot and only ``(slot, dtype, shape)`` travels; the other side looks at the slot itself. An array that
comes back unchanged is recognised by its slot and not copied again. A slot is free once neither side looks at it.

Only our own parent and child processes talk through this, over an anonymous pipe; nothing read from a file or a
network ever reaches the unpickler.
"""

from __future__ import annotations

import ctypes
import io
import pickle
import weakref
from multiprocessing import shared_memory
from typing import Any

import numpy as np

LARGE = 32 * 1024
"""Arrays of at least this many bytes go through the ring."""


class Ring:
    """Slots of shared memory for one pair of processes.

    Args:
        slots: how many arrays may be looked at at the same time.
        slot_bytes: the largest array that fits; memory is only committed when it is touched.
        name: of an existing ring to attach to; made new where None.
    """

    def __init__(self, slots: int = 24, slot_bytes: int = 8 << 20, name: str | None = None) -> None:
        self.slots, self.slot_bytes = slots, slot_bytes
        self.owner = name is None
        size = 2 * slots + slots * slot_bytes
        self.memory = shared_memory.SharedMemory(name=name, create=self.owner, size=size)
        self.side = 0 if self.owner else 1
        self.views: dict[int, int] = {}
        """Slot to the number of arrays of this process that look at it."""
        self.addresses: dict[int, int] = {}
        """Address of a slot in this process to the slot."""
        self.copied = self.overflowed = 0
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._buffer(), 0))
        for slot in range(slots):
            self.addresses[start + self._offset(slot)] = slot

    @property
    def name(self) -> str:
        return self.memory.name

    def put(self, array: np.ndarray[Any, Any]) -> int | None:
        """Copy ``array`` into a free slot; None where it does not fit or all slots are looked at."""
        if array.nbytes > self.slot_bytes:
            self.overflowed += 1
            return None
        buffer = self._buffer()
        for slot in range(self.side, self.slots, 2):  # each side allocates its own half: no race for a slot
            if buffer[2 * slot] == 0 and buffer[2 * slot + 1] == 0:
                target = np.frombuffer(buffer, array.dtype, array.size, self._offset(slot)).reshape(array.shape)
                np.copyto(target, array)
                self.copied += 1
                return slot
        self.overflowed += 1
        return None

    def slot_of(self, array: np.ndarray[Any, Any]) -> int | None:
        """The slot that ``array`` wholly is, so that it need not be copied again."""
        return self.addresses.get(array.ctypes.data) if array.flags.c_contiguous else None

    def hand_over(self, slot: int) -> None:
        """Mark the slot as looked at by the other side, before telling it."""
        self._buffer()[2 * slot + 1 - self.side] = 1

    def look(self, slot: int, dtype: str, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        """The array in ``slot``, without a copy; the slot stays taken while any view of it lives."""
        count = int(np.prod(shape, dtype=np.int64))
        offset = self._offset(slot)
        raw = (ctypes.c_char * (count * np.dtype(dtype).itemsize)).from_buffer(self._buffer(), offset)
        self._buffer()[2 * slot + self.side] = 1
        self.views[slot] = self.views.get(slot, 0) + 1
        weakref.finalize(raw, self._forget, slot).atexit = False
        view: np.ndarray[Any, Any] = np.frombuffer(raw, dtype, count).reshape(shape)  # type: ignore[call-overload]
        return view

    def close(self) -> None:
        """Give the memory back; views that still live keep it until they die."""
        self.addresses.clear()
        if self.owner:
            self.memory.unlink()
        try:
            self.memory.close()
        except BufferError:
            # Somebody still holds a frame. The mapping goes with the last view; only the name is gone now.
            self.memory._mmap = None  # type: ignore[attr-defined]
            self.memory._buf = None  # type: ignore[attr-defined]

    def _offset(self, slot: int) -> int:
        return 2 * self.slots + slot * self.slot_bytes

    def _buffer(self) -> memoryview:
        buffer = self.memory.buf
        assert buffer is not None, "the ring is closed"
        return buffer

    def _forget(self, slot: int) -> None:
        self.views[slot] -= 1
        if self.views[slot] == 0 and self.memory.buf is not None:
            self.memory.buf[2 * slot + self.side] = 0


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, ring: Ring) -> None:
        super().__init__(file, protocol=5)
        self.ring = ring

    def persistent_id(self, value: Any) -> Any:
        if type(value) is not np.ndarray or value.nbytes < LARGE or value.dtype.hasobject:
            return None
        slot = self.ring.slot_of(value)
        if slot is None:
            slot = self.ring.put(value)
        if slot is None:
            return None
        self.ring.hand_over(slot)
        return (slot, value.dtype.str, value.shape)


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, ring: Ring) -> None:
        super().__init__(file)
        self.ring = ring

    def persistent_load(self, pid: Any) -> Any:
        return self.ring.look(*pid)


def dumps(value: Any, ring: Ring) -> bytes:
    """Bytes for the pipe; large arrays stay behind in the ring."""
    file = io.BytesIO()
    _Pickler(file, ring).dump(value)
    return file.getvalue()


def loads(data: bytes, ring: Ring) -> Any:
    """What ``dumps`` of the other side was given; large arrays are views of the ring."""
    return _Unpickler(io.BytesIO(data), ring).load()
