"""The errors people see. Each says where, what was expected, and what would mend it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class VigilError(Exception):
    """A fault that a person can mend: shown as one message without a traceback, exit code 2."""

    def __init__(self, message: str, *, where: str = "", mend: str = "") -> None:
        self.message, self.where, self.mend = message, where, mend
        super().__init__(": ".join(part for part in (where, message) if part) + (f" ({mend})" if mend else ""))


class TopologyError(VigilError):
    """A graph that cannot run: unknown operator or option, wrong types, an unconnected input, a cycle."""


class RecordingError(VigilError):
    """A file that cannot be read as what it claims to be."""


class MessageError(VigilError):
    """A message from outside (HL7, a command) that does not say what its protocol requires."""


def nearest(word: str, known: Iterable[str]) -> str:
    """``did you mean 'x'?``, or the list of what is known where nothing is close."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    return "known: " + ", ".join(names[:20]) + (" ..." if len(names) > 20 else "") if names else "none are known"
