"""How good one second of a channel is: an index from 0 to 1 and the fault's name.

The limits are physical or relative to the channel's own last minute, not fitted to a recording:

* ``lead_off``: half of the samples are missing, or a constant far from zero (an open input drifts to a rail).
* ``flat``: a constant, span below 0.005 mV (ECG, the lower limit of the rules for the CinC Challenge 2015), 0.02 mmHg,
  or a thousandth of the usual pulse (oximeter). Asystole is *not* flat: an amplifier on a living or dead body shows
  its noise, so a silent heart keeps a good index.
* ``clipped``: plateaus of equal samples (32 ms on an ECG, longer on a pulse) at the block's own extremes make up a
  twentieth of it.
* ``saturated``: beyond what a patient can give: ECG 7 mV, pressure above 260 or mean above 180 mmHg (a flushed line).
* ``noise``: broadband noise by the median absolute second difference, which QRS complexes do not move (they fill
  less than a fifth of a second); or a swing more than four times the usual span (motion); or, on a pressure, an edge
  steeper than any artery gives.
* ``zeroing``: pressure within 6 mmHg of zero and without a pulse. In cardiac arrest it settles at 7 to 15 mmHg.

Sources: Li, Mark & Clifford, Physiol Meas 2008 (index per channel); Clifford et al., CinC 2015 (invalid blocks);
Sun, Reisner & Mark, CinC 2006, by way of ``operators.monitor.arterial`` (pressure limits).
"""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Collection
from typing import Any, Literal

import numpy as np

from operators.monitor.arterial import FLAT, HIGHEST_MEAN, HIGHEST_PEAK, STEEPEST, ZERO
from operators.monitor.quality.channel import Array, Block, Role

Fault = Literal["", "lead_off", "flat", "clipped", "saturated", "noise", "zeroing"]

MEMORY = 60
"""Blocks that the usual span is taken from."""
STEADY = {"ecg": 0.005, "abp": 0.02, "pleth": 1e-9}
"""Span below which a block is a constant: mV, mmHg, any unit."""
PLATEAU = {"ecg": 0.032, "abp": 0.12, "pleth": 0.16}
"""Seconds of equal samples at an extreme that make a plateau; tops and valleys of a pulse are round already."""
CLIPPED = 0.05
"""Share of a block in plateaus from which on it is clipped."""
ECG_LIMIT, ECG_RAIL = 7.0, 1.0
"""mV: beyond the first is no patient; a constant further than the second from zero is an open input."""
SWING = 4.0
"""Times the usual span that a block may swing before it is motion."""
NOISY = {"ecg": 0.10, "abp": 0.06, "pleth": 0.06}
"""Noise (standard deviation) as a share of the usual span at which the index is one half."""
LEAST_NOISE = {"ecg": 0.05, "abp": 1.0, "pleth": 0.0}
"""Noise below this, mV or mmHg, never counts, however small the signal is."""
USABLE = 0.5
"""Index from which on a block may speak for or against anything."""


@dataclasses.dataclass(frozen=True)
class Verdict:
    """``index``: 0 (useless) to 1; ``fault``: what is wrong, empty where the index is at least ``USABLE``."""

    index: float
    fault: Fault


class Judge:
    """Judges the blocks of one channel, one after another; remembers their usual span and nothing else."""

    def __init__(self, role: Role) -> None:
        self.role: Role = role
        self._spans: deque[float] = deque(maxlen=MEMORY)

    def usual(self) -> float:
        """Median span (2nd to 98th centile) of the good blocks among the last 60; NaN before three are known."""
        return middle(self._spans) if len(self._spans) >= 3 else math.nan

    def judge(self, block: Block) -> Verdict:
        """Index and fault of a block."""
        values = block.values
        there = values[np.isfinite(values)]
        missing = 1 - len(there) / max(1, len(values))
        if missing > 0.5 or len(there) < 8:
            return Verdict(0.0, "lead_off")
        ordered = np.sort(there)
        low, high = (float(ordered[int(share * (len(ordered) - 1))]) for share in (0.02, 0.98))
        span, middle = high - low, float(ordered[len(ordered) // 2])
        usual = self.usual()
        fault = self._gross(ordered, span, middle, usual)
        if not fault and _plateaus(values, PLATEAU[self.role] * block.rate) > CLIPPED:
            fault = "clipped"
        if not fault and self.role == "abp" and _steepest(values) * block.rate > STEEPEST:
            fault = "noise"
        if fault:
            return Verdict(0.0 if fault in ("lead_off", "flat", "zeroing") else 0.1, fault)
        reference = span if math.isnan(usual) else usual
        rough = _roughness(values)
        noise = rough / (NOISY[self.role] * max(reference, 1e-12)) if rough > LEAST_NOISE[self.role] else 0.0
        swing = 0.0 if math.isnan(usual) else (ordered[-1] - ordered[0]) / (SWING * usual)
        swing = float(swing) if self._swings(float(ordered[-1] - ordered[0])) else 0.0
        index = (1 - missing) / (1 + noise**2) / (1 + swing**4)
        if index >= USABLE and (math.isnan(usual) or 0.3 * usual <= span <= 3 * usual):
            self._spans.append(span)
        return Verdict(index, "" if index >= USABLE else "noise")

    def _swings(self, span: float) -> bool:
        """A small signal that becomes a usual one is no motion."""
        return span > {"ecg": 2.0, "abp": 60.0, "pleth": 0.0}[self.role]

    def _gross(self, ordered: Array, span: float, middle: float, usual: float) -> Fault:
        role, whole = self.role, float(ordered[-1] - ordered[0])
        steady = max(STEADY[role], 0.001 * usual if role == "pleth" and not math.isnan(usual) else 0.0)
        if role == "abp":
            if abs(middle) < ZERO and span < FLAT:
                return "zeroing"
            if ordered[-1] > HIGHEST_PEAK or float(ordered.mean()) > HIGHEST_MEAN:
                return "saturated"
        if whole < steady:
            return "lead_off" if role == "ecg" and abs(middle) > ECG_RAIL else "flat"
        if role == "ecg" and max(-ordered[0], ordered[-1]) > ECG_LIMIT:
            return "saturated"
        return ""

    def state(self) -> dict[str, Any]:
        return {"spans": list(self._spans)}

    def load_state(self, state: dict[str, Any]) -> None:
        self._spans = deque(state.get("spans", ()), maxlen=MEMORY)


def middle(values: Collection[float]) -> float:
    """Median of a few numbers; ten times faster on them than numpy's."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return float(ordered[half]) if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def _roughness(values: Array) -> float:
    """Standard deviation of the broadband noise, from the median absolute second difference of normal noise."""
    second = np.abs(np.diff(values, 2))
    second = second[np.isfinite(second)]
    return float(np.median(second)) / 0.6745 / math.sqrt(6) if len(second) else 0.0


def _steepest(values: Array) -> float:
    """Largest step between neighbours."""
    steps = np.abs(np.diff(values))
    steps = steps[np.isfinite(steps)]
    return float(steps.max()) if len(steps) else 0.0


def _plateaus(values: Array, least: float) -> float:
    """Share of the block in runs of at least ``least`` equal samples at its highest or its lowest value."""
    least = max(4, math.ceil(least))
    share = 0
    with np.errstate(invalid="ignore"):
        for extreme in (np.nanmax(values), np.nanmin(values)):
            at = np.flatnonzero(np.abs(values - extreme) < 1e-9)
            if len(at) >= least:
                runs = np.diff(np.flatnonzero(np.diff(at, prepend=-2, append=at[-1] + 2) > 1))
                share += int(runs[runs >= least].sum())
    return share / len(values)
