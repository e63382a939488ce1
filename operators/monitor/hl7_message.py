"""HL7 v2 messages: bytes to segments and fields, time stamps, and acknowledgements.

Only what the IHE PCD profiles use, bounded everywhere. Errors name the segment and the field and never repeat what was
in them: a field may hold a patient's name.
"""

from __future__ import annotations

import datetime
import re
from typing import NamedTuple

from pipeline.errors import MessageError
from pipeline.message import NANOSECONDS

MAXIMUM_SEGMENTS = 10_000
MAXIMUM_FIELDS = 64
CHARSETS = {"": "utf-8", "ASCII": "utf-8", "UNICODE UTF-8": "utf-8", "UNICODE": "utf-8", "8859/1": "latin-1",
            "8859/2": "iso8859_2", "8859/9": "iso8859_9", "8859/15": "iso8859_15"}  # fmt: skip
"""MSH-18 to Python's codec. Bytes that are not in the character set are replaced."""

_TIME = re.compile(
    r"(\d{4})(\d{2})(\d{2})(\d{2})(\d{2})(?:(\d{2})(?:\.(\d{1,9}))?)?(?:([+-])(\d{2})(\d{2}))?", re.ASCII
)
_ESCAPE = re.compile(r"\\([^\\]{0,64})\\")
_LATEST = 8_000_000_000


class Segment(NamedTuple):
    """One line of a message."""

    name: str
    place: int
    """Counts from 1."""
    fields: list[str]

    def field(self, number: int) -> str:
        """Field by its HL7 number (MSH-1 is the separator); empty where there is none."""
        return self.fields[number - 1] if number <= len(self.fields) else ""

    def where(self, number: int = 0) -> str:
        """For errors: ``segment 7 OBX-5``."""
        return f"segment {self.place} {self.name}" + (f"-{number}" if number else "")


class Hl7Message(NamedTuple):
    """A message cut into segments."""

    segments: list[Segment]
    separators: str
    """Component, repetition, escape and subcomponent separators: ``^~\\&``."""

    @property
    def header(self) -> Segment:
        return self.segments[0]

    def components(self, field: str) -> list[str]:
        """The components of the first repetition of a field, unescaped."""
        first = field.split(self.separators[1], 1)[0]
        return [self.text(part) for part in first.split(self.separators[0], 16)]

    def repetitions(self, field: str) -> list[str]:
        """The repetitions of a field, unescaped."""
        return [self.text(part) for part in field.split(self.separators[1], 16)]

    def text(self, part: str) -> str:
        """Escapes resolved; other control characters become spaces."""
        if self.separators[2] in part:
            part = part.replace(self.separators[2], "\\")
            part = _ESCAPE.sub(self._resolve, part)
        return part if part.isprintable() else "".join(c if c.isprintable() else " " for c in part)

    def _resolve(self, match: re.Match[str]) -> str:
        code = match[1]
        named = {"F": "|", "S": self.separators[0], "R": self.separators[1], "E": "\\", "T": self.separators[3]}
        if code in named:
            return named[code]
        if code[:1] == "X":
            try:
                return bytes.fromhex(code[1:]).decode("utf-8", "replace")
            except ValueError:
                return ""
        return " "


def parse(data: bytes) -> Hl7Message:
    """Cut a message into segments and fields.

    Raises:
        MessageError: where the bytes are no HL7 v2 message; names the place.
    """
    if not data.startswith(b"MSH") or len(data) < 9:
        raise MessageError("does not begin with an MSH segment", where="segment 1", mend="send HL7 v2 in ER7 (bars)")
    if b"\0" in data:
        raise MessageError("holds a zero byte", where=f"byte {data.index(0)}")
    separator = chr(data[3])
    head = re.split(rb"[\r\n]", data, maxsplit=1)[0].decode("latin-1").split(separator, MAXIMUM_FIELDS)
    encoding = head[1] if len(head) > 1 else ""
    marks = separator + encoding
    if (
        not 5 <= len(marks) <= 6
        or len(set(marks)) != len(marks)
        or any(c.isalnum() or not " " < c < "\x7f" for c in marks)
    ):
        raise MessageError("does not name four different separators", where="segment 1 MSH-2", mend=r"send MSH|^~\&")
    charset = head[17].split(encoding[1], 1)[0].strip().upper() if len(head) > 17 else ""
    if charset not in CHARSETS:
        raise MessageError(
            "names a character set that is not known", where="segment 1 MSH-18", mend="send UNICODE UTF-8"
        )
    lines = data.decode(CHARSETS[charset], "replace").replace("\r\n", "\r").replace("\n", "\r").split("\r")
    if len(lines) > MAXIMUM_SEGMENTS:
        raise MessageError(f"has more than {MAXIMUM_SEGMENTS:,} segments", where="message", mend="send fewer at once")
    segments = []
    for place, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, _, rest = line.partition(separator)
        if not (len(name) == 3 and name.isascii() and name.isalnum() and name.isupper()):
            raise MessageError("is not a segment", where=f"segment {place}")
        fields = rest.split(separator, MAXIMUM_FIELDS)
        segments.append(Segment(name, place, [separator, *fields] if name == "MSH" else fields))
    if sum(segment.name == "MSH" for segment in segments) != 1:
        raise MessageError("holds more than one message", where="message", mend="frame each message for itself")
    return Hl7Message(segments, encoding[:4])


def moment(text: str, zone: datetime.tzinfo) -> int | None:
    """Nanoseconds since the epoch of an HL7 time of at least minutes, ``20260131093000.250+0100``; None for others.

    ``zone`` is for times that name none.
    """
    match = _TIME.fullmatch(text.strip()[:40])
    if match is None:
        return None
    year, month, day, hour, minute = (int(part) for part in match.groups()[:5])
    try:
        if match[8]:
            shift = datetime.timedelta(hours=int(match[9]), minutes=int(match[10]))
            zone = datetime.timezone(shift if match[8] == "+" else -shift)
        found = datetime.datetime(year, month, day, hour, minute, int(match[6] or 0), tzinfo=zone)
        seconds = int(found.timestamp())
    except (ValueError, OverflowError):
        return None
    if not 0 <= seconds < _LATEST:
        return None
    return seconds * NANOSECONDS + int((match[7] or "").ljust(9, "0"))


def time_text(time: int) -> str:
    """Nanoseconds since the epoch as HL7 writes them, in UTC with milliseconds."""
    found = datetime.datetime.fromtimestamp(time // NANOSECONDS, datetime.UTC)
    return f"{found:%Y%m%d%H%M%S}.{time % NANOSECONDS // 1_000_000:03d}+0000"


def acknowledge(
    message: Hl7Message | None, now: int, number: int, *, fault: MessageError | None = None, reject: bool = False,
    busy: bool = False,
) -> bytes | None:  # fmt: skip
    """The answer to a message.

    Args:
        message: what came; None where it could not be read.
        now: time of the answer, ns since the epoch.
        number: makes the answer's own control id.
        fault: what was wrong with it. With ``reject`` or ``busy`` the whole was refused; else it was taken but for
            the named part, which the answer says as a warning.
        reject: sending it again would not help (wrong kind of message).
        busy: sending it again later would.

    Returns:
        The message, or None where the sender wants no answer (MSH-15 is NE). A sender that fills MSH-15 or MSH-16 gets
        the codes of the enhanced mode (CA, CE, CR), any other those of the original mode (AA, AE, AR).
    """
    verdict = "R" if reject else "E" if busy or (fault is not None and message is None) else "A"
    header = message.header if message is not None else None
    mark, encoding = "|", "^~\\&"
    mode, kind, control, version, to = "A", "ACK", "", "2.6", ("", "")
    if message is not None and header is not None:
        mark, encoding = header.field(1), header.field(2)
        if header.field(15).strip() == "NE":
            return None
        mode = "C" if header.field(15).strip() or header.field(16).strip() else "A"
        trigger = message.components(header.field(9))[1:2]
        component = message.separators[0]
        kind = f"ACK{component}{trigger[0]}{component}ACK" if trigger and trigger[0][:3].isalnum() else "ACK"
        control, version = header.field(10)[:199], header.field(12)[:16] or "2.6"
        to = (header.field(3)[:227], header.field(4)[:227])
    lines = [
        mark.join(("MSH", encoding, "VIGIL", "", *to, time_text(now), "", kind, f"VIGIL{number}", "P", version)),
        mark.join(("MSA", mode + verdict, control)),
    ]
    if fault is not None:
        code = {"A": "207", "E": "207", "R": "200"}[verdict]
        said = "".join(c if c.isalnum() or c in " .,:-()" else " " for c in str(fault))[:200]
        severity = "W" if verdict == "A" else "E"
        lines.append(mark.join(("ERR", "", "", code, severity, "", "", said)))
    return ("\r".join(lines) + "\r").encode("utf-8")
