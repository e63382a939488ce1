"""What an HL7 v2 message says: PCD-01 (ORU^R01) observations and PCD-04 (ORU^R40) alerts of the IHE PCD profiles.

Both dialects that senders use are read: facet codes 68480-68485 and the older 68164-68168, with reference ids or
numbers only. Nothing that identifies a patient gets out of here: PID is read only to take its words out of texts, free
text of observations is left behind, and names are built from nomenclature codes.
"""

from __future__ import annotations

import datetime
import math
import re
from typing import NamedTuple

from operators.monitor import codes
from operators.monitor.hl7_message import Hl7Message, Segment, moment
from pipeline.errors import MessageError
from pipeline.message import Kind, Priority

MAXIMUM_SAMPLES = 200_000
MAXIMUM_TEXT = 200
RATES = (0.1, 50_000.0)

_NUMBER = re.compile(r"[+-]?(?:\d{1,15}(?:\.\d{0,15})?|\.\d{1,15})(?:[eE][+-]?\d{1,2})?", re.ASCII)
_PATH = re.compile(r"\d{1,6}(?:\.\d{1,6}){0,7}", re.ASCII)
_REFERENCE = re.compile(r"MDCX?_[A-Z0-9_]{1,80}", re.ASCII)
_UNIT = re.compile(r"[\x21-\x7e]{1,32}")

NO_VALUE = {"INV", "NAV", "CAL", "OFF", "OFFLINE"}
"""OBX-8 flags under which a value is not to be used."""
NOT_REAL = {"TEST", "DEMO"}
"""OBX-8 flags of a device that is not on a patient."""

FACETS = {
    "MDC_ATTR_EVENT_PHASE": "phase", "68481": "phase", "68164": "phase",
    "MDC_ATTR_ALARM_STATE": "state", "68482": "state", "68165": "state",
    "MDC_ATTR_ALARM_INACTIVATION_STATE": "inactivation", "68483": "inactivation", "68166": "inactivation",
    "MDC_ATTR_ALARM_PRIORITY": "priority", "68484": "priority", "68167": "priority",
    "MDC_ATTR_ALERT_TYPE": "kind", "68485": "kind", "68168": "kind",
    "MDC_ATTR_ALERT_SOURCE": "source", "68480": "source",
    "MDC_ATTR_ALERT_TEXT": "text", "68546": "text",
}  # fmt: skip
"""Reference id or number of an alert's facet to what it says. The second number of each is that of older senders."""
WATCHDOG = {"67860", "MDC_ATTR_CONFIRM_TIMEOUT", "MDC_TIME_PD_CONFIRM_TIMEOUT"}
"""What a gateway's periodic sign of life carries."""

PRIORITIES: dict[str, Priority] = {
    "PH": "high",
    "PM": "medium",
    "PL": "low",
    "PI": "info",
    "PN": "info",
    "PU": "medium",
}
"""PCD-04 words to ours. An unknown priority (PU) is treated as medium: it is somebody's alarm."""
KINDS: dict[str, Kind] = {"SP": "physiological", "ST": "technical", "SA": "advisory"}
ENDING = {"end"}
MOMENTARY = {"tpoint"}
RATE_CODES = {"MDC_ATTR_SAMP_RATE", "67981"}
PERIOD_CODES = {"MDC_ATTR_TIME_PD_SAMP", "MDC_TIME_PD_SAMP", "68032"}


class Observation(NamedTuple):
    """One measured value or piece of waveform."""

    code: str
    """Reference id, or ``MDC_<number>`` where the message gives only a number; empty for local codes."""
    channel: str
    """Our name for it, without the device: ``ABP_MEAN``."""
    path: str
    """OBX-4: where in the device's containment tree."""
    unit: str
    """UCUM."""
    time: int | None
    """By the device's clock, ns since the epoch; None where the message says none."""
    values: tuple[float, ...]
    """One for a numeric. NaN is no value."""
    rate: float = 0.0
    """Samples per second of a waveform, 0 for a numeric."""
    real: bool = True
    """False where the device says that it is in test or demo mode."""


class Alarm(NamedTuple):
    """One report of a device about one of its alarms."""

    identity: str
    """OBR-3, the same from start to end. Never leaves the listener."""
    code: str
    """Reference id of the event."""
    text: str
    channel: str
    """What it is about, as in ``Observation``; empty where the device does not say."""
    time: int | None
    phase: str
    """start, continue, update, escalate, present, end, tpoint; empty where the device does not say."""
    state: str
    """inactive, active, latched; empty where the device does not say."""
    inactivation: str
    priority: Priority
    kind: Kind
    value: float | None
    unit: str
    limits: str
    """As the device gives them, e.g. ``90-100``; digits only."""

    @property
    def present(self) -> bool:
        """True while the device's condition is."""
        return self.phase not in ENDING and not (self.state == "inactive" and self.phase != "start")


class Report(NamedTuple):
    """Everything a message says that we use."""

    kind: str
    """``R01`` or ``R40``."""
    device: str
    """The sender's name (MSH-3), made safe; may be empty."""
    control: str
    """MSH-10."""
    time: int | None
    """MSH-7."""
    bed: str
    """PV1-3: of use only to tell beds apart. Never leaves the listener."""
    observations: list[Observation]
    alarms: list[Alarm]
    watchdog: bool
    unused: int
    """Observations of kinds that we do not use (texts, containers)."""
    faults: list[MessageError]
    """Parts that could not be read; the rest is good."""


def read(message: Hl7Message, zone: datetime.tzinfo) -> Report:
    """Understand a parsed message.

    Raises:
        MessageError: where the message is of another kind than ORU^R01 or ORU^R40, or lacks what both must have.
    """
    header = message.header
    event = message.components(header.field(9))
    if event[0] != "ORU" or len(event) < 2 or event[1] not in ("R01", "R40"):
        raise MessageError("is not a kind of message that is read here", where=header.where(9), mend="ORU^R01, ORU^R40")
    if not header.field(12).lstrip().startswith("2."):
        raise MessageError("is not version 2 of HL7", where=header.where(12))
    if not header.field(10).strip():
        raise MessageError("has no control id", where=header.where(10))
    if not any(segment.name in ("OBX", "OBR") for segment in message.segments):
        raise MessageError("has no OBR or OBX segment", where="message", mend="IHE PCD-01 or PCD-04")
    return _Reading(message, zone, event[1]).report()


class _Reading:
    """One message being read."""

    def __init__(self, message: Hl7Message, zone: datetime.tzinfo, kind: str) -> None:
        self.message, self.zone, self.kind = message, zone, kind
        self.faults: list[MessageError] = []
        self.unused = 0
        self.secrets = self._secrets()

    def report(self) -> Report:
        message, header = self.message, self.message.header
        groups: list[tuple[Segment | None, list[Segment]]] = [(None, [])]
        bed = ""
        for segment in message.segments:
            if segment.name == "OBR":
                groups.append((segment, []))
            elif segment.name == "OBX":
                groups[-1][1].append(segment)
            elif segment.name == "PV1":
                bed = "^".join(message.components(segment.field(3))[:4]).strip("^ ")
        observations: list[Observation] = []
        alarms: list[Alarm] = []
        watchdog = False
        for request, results in groups:
            if self.kind == "R01":
                observations += self._observations(request, results)
            elif request is not None or results:
                watchdog = watchdog or any(self._codes(segment) & WATCHDOG for segment in results)
                alarm = self._alarm(request, results)
                alarms += [alarm] if alarm is not None else []
        device = self._clean(message.components(header.field(3))[0])
        return Report(self.kind, device, header.field(10).strip(), moment(header.field(7), self.zone), bed,
                      observations, alarms, watchdog, self.unused, self.faults)  # fmt: skip

    # ------------------------------------------------------------------------------- identifiers

    def _secrets(self) -> re.Pattern[str] | None:
        """Every word of the patient's segments, to be taken out of texts."""
        words: set[str] = set()
        for segment in self.message.segments:
            if segment.name in ("PID", "NK1", "GT1", "IN1", "PV1"):
                for field in segment.fields[:40]:
                    words.update(part for part in re.split(r"[\W_]+", self.message.text(field)[:2000]) if len(part) > 2)
        longest = sorted(words, key=lambda word: (-len(word), word))[:400]
        return re.compile("|".join(map(re.escape, longest)), re.IGNORECASE) if longest else None

    def _scrub(self, text: str) -> str:
        text = " ".join(text[:MAXIMUM_TEXT].split())
        return self.secrets.sub("[removed]", text) if self.secrets is not None else text

    def _clean(self, text: str) -> str:
        """A name of letters, digits and dashes, without the patient's words."""
        if self.secrets is not None and self.secrets.search(text[:64]):
            return ""
        return re.sub(r"[^A-Za-z0-9]+", "-", text[:64]).strip("-")[:32]

    # -------------------------------------------------------------------------------------- codes

    def _codes(self, segment: Segment) -> set[str]:
        return {part for part in self.message.components(segment.field(3))[:5] if part}

    def _identify(self, field: str) -> tuple[str, str]:
        """Reference id and channel of a coded field; two empty strings where it has neither."""
        parts = self.message.components(field)
        for at in (0, 3):
            number, name = (parts[i].strip() if i < len(parts) else "" for i in (at, at + 1))
            if _REFERENCE.fullmatch(number):
                number, name = "", number
            known = name if _REFERENCE.fullmatch(name) else codes.NUMBERS.get(number, "")
            if known:
                return known, codes.channel_of(known)
            if number.isascii() and number.isdigit() and len(number) <= 9 and number != "0":
                return f"MDC_{number}", f"MDC_{number}"
        local = self._clean(parts[0])
        return "", f"LOCAL_{local}" if local else ""

    def _unit(self, segment: Segment) -> str:
        parts = [part.strip() for part in self.message.components(segment.field(6))]
        for part in (parts[1] if len(parts) > 1 else "", parts[0]):
            unit = codes.ucum(part)
            if part and (unit != part or part in codes.UNITS.values()):
                return unit
        system = parts[2].upper() if len(parts) > 2 else ""
        return parts[0] if system == "UCUM" and _UNIT.fullmatch(parts[0]) else ""

    def _time(self, segment: Segment, number: int) -> int | None:
        text = segment.field(number)
        if not text.strip():
            return None
        found = moment(text.split(self.message.separators[0], 1)[0], self.zone)
        if found is None:
            self._fault("is not a time", segment, number)
        return found

    def _fault(self, text: str, segment: Segment, number: int) -> None:
        if len(self.faults) < 20:
            self.faults.append(MessageError(text, where=segment.where(number)))

    # ------------------------------------------------------------------------------- observations

    def _observations(self, request: Segment | None, results: list[Segment]) -> list[Observation]:
        begin = self._time(request, 7) if request is not None else None
        end = self._time(request, 8) if request is not None else None
        rates = self._rates(results)
        found = []
        for segment in results:
            kind = segment.field(2).strip()
            if kind not in ("NM", "SN", "NA") or self._codes(segment) & (RATE_CODES | PERIOD_CODES):
                self.unused += bool(kind) and kind not in ("NM", "SN", "NA")
                continue
            code, channel = self._identify(segment.field(3))
            path = segment.field(4).strip()
            if not channel or (path and not _PATH.fullmatch(path)):
                self._fault("does not say what was measured", segment, 3 if not channel else 4)
                continue
            values = self._samples(segment) if kind == "NA" else self._value(segment, kind)
            if values is None:
                continue
            flags = {flag.strip().upper() for flag in self.message.repetitions(segment.field(8))}
            if flags & NO_VALUE or segment.field(11).strip() in ("X", "D", "W", "N", "I"):
                values = (math.nan,) * len(values)
            time = self._time(segment, 14) or begin
            rate = 0.0
            if kind == "NA":
                rate = rates.get(path, 0.0)
                if not rate and begin is not None and end is not None and end > begin:
                    rate = len(values) * 1e9 / (end - begin)
                if not RATES[0] <= rate <= RATES[1]:
                    self._fault("is a waveform without a usable sampling rate", segment, 5)
                    continue
            real = not flags & NOT_REAL
            found.append(Observation(code, channel, path, self._unit(segment), time, values, rate, real))
        return found

    def _value(self, segment: Segment, kind: str) -> tuple[float, ...] | None:
        text = segment.field(5).strip()
        if kind == "SN":
            parts = self.message.components(text)
            text = parts[1].strip() if len(parts) > 1 and parts[0].strip() in ("", "=") else parts[0].strip()
        if text in ("", '""'):
            return (math.nan,)
        if not _NUMBER.fullmatch(text):
            self._fault("is not a number", segment, 5)
            return None
        return (float(text),)

    def _samples(self, segment: Segment) -> tuple[float, ...] | None:
        text = segment.field(5).replace(self.message.separators[1], self.message.separators[0])
        parts = text.split(self.message.separators[0])
        if len(parts) > MAXIMUM_SAMPLES:
            self._fault(f"has more than {MAXIMUM_SAMPLES:,} samples", segment, 5)
            return None
        try:
            values = tuple(float(part) if part.strip() else math.nan for part in parts)
        except ValueError:
            self._fault("holds what is not a number", segment, 5)
            return None
        return tuple(value if math.isfinite(value) and abs(value) < 1e30 else math.nan for value in values)

    def _rates(self, results: list[Segment]) -> dict[str, float]:
        """Path of a waveform to its samples per second, from the attributes below it (IHE PCD WCM)."""
        found: dict[str, float] = {}
        for segment in results:
            named = self._codes(segment)
            if not named & (RATE_CODES | PERIOD_CODES) or not _NUMBER.fullmatch(segment.field(5).strip()):
                continue
            value = float(segment.field(5).strip())
            if named & PERIOD_CODES:
                unit = "".join(self.message.components(segment.field(6)))
                scale = 1e6 if "MICRO" in unit else 1.0 if unit.endswith("DIM_SECMDC") or unit == "s" else 1e3
                value = scale / value if value > 0 else 0.0
            found[segment.field(4).strip().rpartition(".")[0]] = value
        return found

    # ------------------------------------------------------------------------------------- alarms

    def _alarm(self, request: Segment | None, results: list[Segment]) -> Alarm | None:
        """The alarm of one OBR with its facets; None where the group tells of none (a watchdog)."""
        message = self.message
        said: dict[str, str] = {}
        code = channel = unit = limits = text = ""
        value: float | None = None
        flags: list[str] = []
        time = None
        for segment in results:
            flags += (
                [flag.strip().upper() for flag in message.repetitions(segment.field(8))] if segment.field(8) else []
            )
            time = time or self._time(segment, 14)
            named = self._codes(segment)
            facet = next((FACETS[name] for name in sorted(named) if name in FACETS), "")
            if facet == "source":
                channel = channel or self._identify(segment.field(5))[1]
            elif facet:
                said[facet] = self._word(segment)
            elif not code and (segment.field(4).strip().endswith(".1") or "EVT" in segment.field(3).upper()):
                # The event: its code stands in OBX-3, or in OBX-5 under the attribute "event".
                own, inner = self._identify(segment.field(3))[0], self._identify(segment.field(5))[0]
                code = inner if inner and ("EVT" in inner or "EVT" not in own) else own
                text = self._words(segment.field(5)) or self._words(segment.field(3))
            elif segment.field(2).strip() in ("NM", "SN") and value is None:
                measured = self._value(segment, segment.field(2).strip())
                value = measured[0] if measured is not None and measured[0] == measured[0] else None
                channel, unit = self._identify(segment.field(3))[1], self._unit(segment)
                limits = re.sub(r"[^0-9.<>-]", "", segment.field(7)[:40])
        if not code and not said:
            return None
        if not said.get("phase") and not said.get("state") and not flags:
            if not code:
                self.faults.append(MessageError("an alert without event, phase and state", where="message"))
                return None
            said["phase"] = "present"
        place = request if request is not None else results[0]
        identity = "^".join(message.components(request.field(3))[:3]) if request is not None else ""
        priority = said.get("priority", "").upper() or next((flag for flag in flags if flag in PRIORITIES), "PU")
        kind = said.get("kind", "").upper() or next((flag for flag in flags if flag in KINDS), "")
        if request is not None:
            time = self._time(request, 7) or time
        if priority not in PRIORITIES:
            self._fault("names a priority that is not known", place, 0)
        return Alarm(
            identity or f"{code} {channel}", code or "MDC_EVT_ALARM", said.get("text", "") or text, channel, time,
            said.get("phase", "").lower(), said.get("state", "").lower(), said.get("inactivation", "").lower(),
            PRIORITIES.get(priority, "medium"), KINDS.get(kind, "technical" if not channel else "physiological"),
            value, unit, limits,
        )  # fmt: skip

    def _word(self, segment: Segment) -> str:
        """What a facet says: a word, or the word of a coded value."""
        parts = self.message.components(segment.field(5))
        word = parts[1] if len(parts) > 1 and parts[0].strip().isdigit() and parts[1] else parts[0]
        return self._scrub(word)

    def _words(self, field: str) -> str:
        """The human part of a coded field: what is neither a number nor a reference id nor the coding system."""
        for part in self.message.components(field):
            if part.strip() and not _REFERENCE.fullmatch(part.strip()) and not part.strip().isdigit() and part != "MDC":
                return self._scrub(part)
        return ""
