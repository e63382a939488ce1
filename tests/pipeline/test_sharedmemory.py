from __future__ import annotations

import gc

import numpy as np

from pipeline import sharedmemory
from pipeline.message import Message, VideoFrame


def frame(value: int) -> Message[VideoFrame]:
    plane = np.full((1080, 1920), value, np.uint8)
    return Message("camera.video", value, value, VideoFrame(1920, 1080, "gray", (plane,)))


def pair() -> tuple[sharedmemory.Ring, sharedmemory.Ring]:
    ours = sharedmemory.Ring(slots=4, slot_bytes=4 << 20)
    return ours, sharedmemory.Ring(4, 4 << 20, ours.name)


def test_a_frame_crosses_by_one_copy_and_comes_back_by_none() -> None:
    ours, theirs = pair()
    sent = sharedmemory.dumps(frame(7), ours)
    assert len(sent) < 2000, "the picture stays in shared memory"
    received = sharedmemory.loads(sent, theirs)
    assert np.array_equal(received.payload.planes[0], frame(7).payload.planes[0])
    assert (ours.copied, theirs.copied) == (1, 0)
    back = sharedmemory.loads(sharedmemory.dumps(received, theirs), ours)
    assert theirs.copied == 0, "it is recognised by its slot"
    assert np.array_equal(back.payload.planes[0], received.payload.planes[0])
    del received, back
    gc.collect()
    ours.close()
    theirs.close()


def test_slots_come_back_when_nobody_looks_and_a_full_ring_still_delivers() -> None:
    ours, theirs = pair()
    for value in range(20):
        received = sharedmemory.loads(sharedmemory.dumps(frame(value), ours), theirs)
        assert received.payload.planes[0][5, 5] == value
        del received
    assert (ours.copied, ours.overflowed) == (20, 0)
    held = [sharedmemory.loads(sharedmemory.dumps(frame(value), ours), theirs) for value in range(6)]
    assert [h.payload.planes[0][0, 0] for h in held] == list(range(6)), "what does not fit travels in the pipe"
    assert ours.overflowed == 4
    del held
    gc.collect()
    ours.close()
    theirs.close()


def test_a_frame_outlives_its_ring() -> None:
    ours, theirs = pair()
    received = sharedmemory.loads(sharedmemory.dumps(frame(9), ours), theirs)
    theirs.close()
    ours.close()
    assert received.payload.planes[0][1000, 1000] == 9
