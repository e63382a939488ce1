"""What kind of signal a channel is, and its samples in blocks of one second, whatever the chunks were.

Everything that judges waveforms stands on these blocks. They are counted from a channel's first sample, so their
content, and all that follows from it, does not depend on how a source cuts its chunks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from operators.monitor import codes
from pipeline.message import NANOSECONDS, Waveform

Array = np.ndarray[Any, np.dtype[Any]]
Role = Literal["ecg", "abp", "pleth"]

SLOWEST, FASTEST = 50.0, 4000.0
"""Samples per second outside which a channel is not judged: 50 are too few for a QRS complex."""
FILLED = 2.0
"""Seconds of gap that are filled with NaN; after a longer one blocks are counted anew."""
JITTER = 20_000_000
"""Nanoseconds by which a chunk's time stamp may be off before samples are taken as missing or doubled."""
HUGE = 1e6
"""Samples beyond this are no measurement in any unit: they become NaN."""

FACTORS = {"": 1.0, "mV": 1.0, "uV": 1e-3, "V": 1e3, "mm[Hg]": 1.0, "kPa": 7.50062, "1": 1.0, "%": 1.0}
"""UCUM unit to the factor to mV or mmHg; the oximeter's wave has no unit."""

_ROLES: tuple[tuple[str, Role], ...] = (("MDC_ECG_ELEC_POTL", "ecg"), ("MDC_PULS_OXIM_PLETH", "pleth"))
_PRESSURES = ("MDC_PRESS_BLD_ART", "MDC_PRESS_BLD_ART_ABP")


def role_of(wave: Waveform) -> Role | None:
    """Whether a waveform is an ECG lead, arterial pressure or the oximeter's wave; None for everything else, for
    units that are not known, and for rates at which beats cannot be told."""
    if not SLOWEST <= wave.rate <= FASTEST or wave.unit not in FACTORS:
        return None
    code = wave.code or codes.meaning(wave.channel).code
    if code in _PRESSURES:
        return "abp"
    return next((role for prefix, role in _ROLES if code.startswith(prefix)), None)


@dataclasses.dataclass(frozen=True)
class Block:
    """One second of a channel."""

    start: int
    """Event time of the first sample, ns."""
    rate: float
    """Samples per second."""
    values: Array
    """(round(rate),) float64, mV or mmHg or the oximeter's own unit; NaN where a sample is missing."""
    fresh: bool
    """True where it does not continue the block before it."""

    @property
    def end(self) -> int:
        """Event time at which the block is over, ns."""
        return self.start + round(len(self.values) / self.rate * NANOSECONDS)


class Blocks:
    """Cuts one channel into blocks; holds less than three seconds of samples and no more."""

    def __init__(self) -> None:
        self._rate, self._unit, self._factor = 0.0, "", 1.0
        self._tolerance = 0
        self._cleaned = 0
        """Of the samples that are held: how many are clean already."""
        self._anchor = 0
        """Time of the first sample since blocks were last counted anew, ns."""
        self._count = 0
        """Samples since then, handed out or held."""
        self._held: list[Array] = []
        self._holding = 0
        self._fresh = True

    def add(self, time: int, wave: Waveform) -> Iterator[Block]:
        """Take a chunk; gives the blocks that it completes.

        Samples that come twice are dropped. A chunk from long before the one before it (a clock put back), a change of
        rate or a gap of more than two seconds begins anew; what was held is then given as a block padded with NaN.
        """
        values = wave.values
        if not len(values):
            return
        if wave.rate != self._rate or wave.unit != self._unit:
            yield from self._restart(time, wave.rate, wave.unit)
        off = time - self._time(self._count)
        if off > self._tolerance or off < -self._tolerance:
            if abs(off) > FILLED * NANOSECONDS:
                yield from self._restart(time, wave.rate, wave.unit)
            elif off > 0:
                self._hold(np.full(round(off * self._rate / NANOSECONDS), np.nan))
            else:
                values = values[round(-off * self._rate / NANOSECONDS) :]
        self._hold(values)
        size = round(self._rate)
        if self._holding < size:
            return
        whole = self._clean()
        start = self._count - len(whole)
        upto = len(whole) - len(whole) % size
        self._held, self._holding = [whole[upto:]], len(whole) - upto
        for at in range(0, upto, size):
            yield self._block(start + at, whole[at : at + size])

    def _hold(self, values: Array) -> None:
        self._held.append(values)
        self._holding += len(values)
        self._count += len(values)

    def _clean(self) -> Array:
        """All that is held, in mV or mmHg; what was cleaned before and is held still has no unit to convert."""
        whole = np.concatenate(self._held, dtype=np.float64, casting="unsafe")
        rest = self._cleaned
        with np.errstate(invalid="ignore"):
            whole[~(np.abs(whole) < HUGE)] = np.nan
        if self._factor != 1.0:
            whole[rest:] *= self._factor
        self._cleaned = len(whole) % round(self._rate)
        return whole

    def finish(self) -> Iterator[Block]:
        """The channel has ended: what is held, as a block padded with NaN."""
        yield from self._restart(0, 0.0, "")

    def _block(self, index: int, values: Array) -> Block:
        block = Block(self._time(index), self._rate, values, self._fresh)
        self._fresh = False
        return block

    def _time(self, index: int) -> int:
        return self._anchor + round(index / self._rate * NANOSECONDS) if self._rate else 0

    def _restart(self, time: int, rate: float, unit: str) -> Iterator[Block]:
        if self._holding and self._rate:
            held = self._clean()
            padded = np.concatenate([held, np.full(round(self._rate) - len(held), np.nan)])
            yield self._block(self._count - len(held), padded)
        self._rate, self._unit, self._factor = rate, unit, FACTORS.get(unit, 1.0)
        self._tolerance = max(JITTER, round(2 / rate * NANOSECONDS)) if rate else 0
        self._anchor, self._count, self._cleaned = time, 0, 0
        self._held, self._holding, self._fresh = [], 0, True
