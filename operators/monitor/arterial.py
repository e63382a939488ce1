"""Is the arterial line telling the truth? Judges the pressure waveform in two-second windows.

Thresholds come from physiology and from what is done to an arterial line, not from any recording:

* *spike*: peripheral arterial pressure rises at most about 1,000-2,000 mmHg/s, even on inotropes; a steeper edge is a
  knock on the catheter, a flush or an electrical artefact.
* *flush*: the pressurised bag stands at about 300 mmHg; no patient has a mean above 180 mmHg or peaks above 260.
* *open_to_air*: while a transducer is zeroed it reads 0 within a few mmHg, without a pulse. (In cardiac arrest
  pressures equalise at 7-15 mmHg, so 0 is not arrest.)
* *no_pulse*: no pulsation in two seconds (30/min or slower): a closed stopcock, blood being drawn, a disconnected or
  clotted line - or cardiac arrest. It counts as an artefact only while the oximeter's waveform shows a beating heart.
* *damped*: the pulse shrank to a third of its last minute's while the oximeter's did not: a kink, clot or air bubble.
  The mean of a damped line may still be right or drift; without the oximeter as witness it counts as true.

Sources: Li, Mark & Clifford, "Artificial arterial blood pressure artifact models and an evaluation of a robust blood
pressure and heart rate estimator", BioMed Eng OnLine 2009 (the artefact kinds); Sun, Reisner & Mark, "A signal
abnormality index for arterial blood pressure waveforms", CinC 2006 (limits on pressure, pulse and slope per beat).
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any, Literal

import numpy as np

from pipeline.message import NANOSECONDS, Waveform

Reason = Literal["", "spike", "flush", "open_to_air", "no_pulse", "damped", "inconsistent"]

WINDOW = 2 * NANOSECONDS
MEMORY = 30
"""Windows that the usual size of a pulse is taken from: one minute."""

STEEPEST = 2500.0  # mmHg/s
HIGHEST_MEAN, HIGHEST_PEAK = 180.0, 260.0  # mmHg
FLAT = 8.0  # mmHg of pulse
ZERO = 6.0  # mmHg from zero
SHRUNK = 1 / 3


class Pulse:
    """Cuts a waveform into windows of event time and remembers the size of its pulse in the last minute.

    A window is closed by the first chunk that begins after it, so what is known at a time depends on event time only.
    """

    def __init__(self) -> None:
        self.window = -1
        self.chunks: list[np.ndarray] = []
        self.rate = 0.0
        self.sizes: deque[float] = deque(maxlen=MEMORY)
        self.size, self.mean, self.peak, self.slope = math.nan, math.nan, math.nan, 0.0
        """Of the last closed window: pulse (2nd to 98th centile), mean, highest sample, steepest edge per second."""
        self.closed = -1
        """End of the last closed window that held enough samples, ns."""

    def add(self, time: int, wave: Waveform) -> bool:
        """Take a chunk. True where it closed a window that holds at least half of its samples."""
        window = time // WINDOW
        closed = window != self.window and bool(self.chunks) and self._close()
        if window != self.window:
            self.window, self.chunks, self.rate = window, [], wave.rate
        self.chunks.append(wave.values)
        return closed

    def _close(self) -> bool:
        values = np.concatenate(self.chunks)
        there = values[np.isfinite(values)]
        if len(there) < max(4, self.rate * WINDOW / NANOSECONDS / 2):
            return False
        ordered = np.sort(there)
        low, high = ordered[int(0.02 * (len(ordered) - 1))], ordered[int(0.98 * (len(ordered) - 1))]
        self.size, self.mean, self.peak = float(high - low), float(there.mean()), float(ordered[-1])
        self.slope = float(np.abs(np.diff(there)).max() * self.rate)
        self.closed = (self.window + 1) * WINDOW
        return True

    def usual(self) -> float:
        """Median pulse of the last minute; NaN before anything is known."""
        return float(np.median(self.sizes)) if len(self.sizes) >= 3 else math.nan

    def remember(self) -> None:
        """Count the last window's pulse among the usual ones."""
        self.sizes.append(self.size)

    def state(self) -> dict[str, Any]:
        keys = ("size", "mean", "peak", "slope", "closed")
        found: dict[str, Any] = {key: _plain(getattr(self, key)) for key in keys}
        return {**found, "sizes": list(self.sizes)}

    def load_state(self, state: dict[str, Any]) -> None:
        for key, value in state.items():
            if key == "sizes":
                self.sizes = deque(value, maxlen=MEMORY)
            else:
                setattr(self, key, math.nan if value is None else value)


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else value


class ArterialLine:
    """Verdict on an arterial line from its waveform and, as a witness, the oximeter's."""

    def __init__(self) -> None:
        self.pressure, self.pleth = Pulse(), Pulse()
        self.bad: deque[tuple[int, Reason]] = deque(maxlen=8)
        """End of each recent bad window and what was wrong with it."""
        self.reason: Reason = ""
        """What is wrong with the last closed window."""
        self.since = -1
        """Start of the bad windows that follow each other until now; -1 when the last was good."""

    def add_pressure(self, time: int, wave: Waveform) -> bool:
        """Take a chunk of arterial pressure (mmHg). True where a window was closed and judged."""
        if not self.pressure.add(time, wave):
            return False
        pulse = self.pressure
        self.reason = self._judge(pulse)
        if self.reason:
            self.bad.append((pulse.closed, self.reason))
            self.since = pulse.closed - WINDOW if self.since < 0 else self.since
        else:
            pulse.remember()
            self.since = -1
        return True

    def add_pleth(self, time: int, wave: Waveform) -> None:
        """Take a chunk of the oximeter's waveform, in any unit."""
        if self.pleth.add(time, wave):
            usual, size = self.pleth.usual(), self.pleth.size
            # A hand that moves is no measure of a pulse; and a pulse that is gone must not become the usual one,
            # or a minute after the heart has stopped the rest of its trace would pass for a beat.
            if math.isnan(usual) or 0.3 * usual <= size <= 3 * usual:
                self.pleth.remember()

    def verdict(self, time: int, *, systolic: float, mean: float, diastolic: float) -> Reason:
        """Why a mean pressure given at ``time`` is not to be believed; empty where nothing speaks against it.

        Monitors average about four seconds, so a bad window in the last six taints the value.
        """
        for end, reason in reversed(self.bad):
            if end > time - 6 * NANOSECONDS:
                return reason
        if mean > HIGHEST_MEAN:
            return "flush"
        if not (math.isnan(systolic) or math.isnan(diastolic)):
            if not diastolic - 1 <= mean <= systolic + 1:
                return "inconsistent"
            if systolic - diastolic < FLAT:
                if abs(mean) < ZERO:
                    return "open_to_air"
                if self._heart_beats(time):
                    return "no_pulse"
        return ""

    def _judge(self, pulse: Pulse) -> Reason:
        if pulse.mean > HIGHEST_MEAN or pulse.peak > HIGHEST_PEAK:
            return "flush"
        if pulse.slope > STEEPEST:
            return "spike"
        if pulse.size < FLAT:
            if abs(pulse.mean) < ZERO:
                return "open_to_air"
            return "no_pulse" if self._heart_beats(pulse.closed) else ""
        usual = pulse.usual()
        return "damped" if pulse.size < SHRUNK * usual and self._heart_beats(pulse.closed) else ""

    def _heart_beats(self, time: int) -> bool:
        """True where the oximeter showed a pulse of at least half its usual size in the last six seconds."""
        pleth, usual = self.pleth, self.pleth.usual()
        return pleth.closed > time - 6 * NANOSECONDS and usual > 0 and pleth.size >= 0.5 * usual

    def state(self) -> dict[str, Any]:
        return {"pressure": self.pressure.state(), "pleth": self.pleth.state(), "bad": [list(b) for b in self.bad],
                "reason": self.reason, "since": self.since}  # fmt: skip

    def load_state(self, state: dict[str, Any]) -> None:
        self.pressure.load_state(state["pressure"])
        self.pleth.load_state(state["pleth"])
        self.bad = deque(((end, reason) for end, reason in state["bad"]), maxlen=8)
        self.reason, self.since = state["reason"], state["since"]
