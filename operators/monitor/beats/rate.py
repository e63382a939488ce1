"""Heart rate and pulse rate by agreement across channels: a value that channels share, or none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

BEATS = 8
"""Beats that a channel's rate is the median interval of; fewer, down to three, where they are slow."""
AGREE = 0.10
"""Share by which rates may differ and agree ..."""
AGREE_BPM = 4.0
"""... or this many a minute."""
PAUSE = 4.0
"""Seconds without a beat after which a good channel shows none at all."""


class Reading(NamedTuple):
    """What one channel says now."""

    role: str
    rate: float
    """/min; 0 where a good channel shows no beat for 4 s; NaN where it cannot tell."""


def channel_rate(times: Sequence[float], now: float, usable: bool) -> float:
    """Rate of one channel from its last beats.

    Args:
        times: of its good beats, s, rising.
        now: time up to which its beats are known, s.
        usable: was its signal usable in the last four seconds?
    """
    if not usable:
        return math.nan
    recent = [time for time in times if time > now - 16]
    if not recent or now - recent[-1] >= PAUSE:
        return 0.0
    if len(recent) < 3:
        return math.nan
    rate = 60 / float(np.median(np.diff(recent[-BEATS:])))
    # A rate cannot be higher than the time since the last beat allows.
    since = now - recent[-1]
    return min(rate, 60 / since) if since > 2 * 60 / rate else rate


def agree(one: float, other: float) -> bool:
    """Do two rates say the same?"""
    return abs(one - other) <= max(AGREE_BPM, AGREE * max(one, other))


def heart_rate(readings: Sequence[Reading]) -> float:
    """The rate that at least one ECG lead gives and that no majority of the readings denies.

    One lead alone, with nothing else to be read, is believed. Where there are more readings the lead's must agree with
    at least one other; of two leads that both find somebody to agree with, but not each other, neither is. NaN then.
    """
    known = [reading for reading in readings if not math.isnan(reading.rate)]
    leads = [reading for reading in known if reading.role == "ecg"]
    if not leads:
        return math.nan
    if len(known) == 1:
        return known[0].rate
    held = [
        reading.rate for reading in leads
        if any(other is not reading and agree(reading.rate, other.rate) for other in known)
    ]  # fmt: skip
    if not held or not all(agree(min(held), rate) for rate in held):
        return math.nan
    return float(np.median(held))


def pulse_rate(readings: Sequence[Reading]) -> float:
    """The rate of the pulse channels, where they agree; one alone must agree with a lead, if there is one to read.

    So a deficit of pulses, in fibrillation of the atria or without any output, gives no rate unless an arterial
    pressure and the oximeter both show it.
    """
    known = [reading for reading in readings if not math.isnan(reading.rate)]
    pulses = [reading.rate for reading in known if reading.role != "ecg"]
    leads = [reading.rate for reading in known if reading.role == "ecg"]
    if not pulses:
        return math.nan
    if len(pulses) == 1:
        return pulses[0] if not leads or any(agree(pulses[0], lead) for lead in leads) else math.nan
    return float(np.median(pulses)) if agree(min(pulses), max(pulses)) else math.nan
