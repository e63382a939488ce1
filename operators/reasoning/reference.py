"""The meaning of the language, written down to be obvious: everything is looked up in the whole history, every time.

Slow on purpose (its time grows with the cube of the history). The tests hold ``cells`` against it on random signals,
and the bench runs beside it. An *instant* is a moment together with the messages that have come by then; two messages
of one time are two instants, so that nothing depends on how the ones are grouped that come together.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any

from operators.monitor.limits import CONVERSIONS
from operators.reasoning import syntax
from operators.reasoning.preset import Signal
from operators.reasoning.syntax import Node
from operators.rules import rank
from pipeline.message import AlertCondition, Detection, Event, Message, Numeric

TRUE, UNKNOWN, FALSE = 1, 0, -1
PORTS = {Numeric: "numerics", AlertCondition: "conditions", Event: "events", Detection: "detections"}


class Reference:
    """One history, to be asked what was true when.

    Args:
        signals: those of the preset.
        messages: in the total order.
        moments: times at which to look beside those of the messages.
    """

    def __init__(self, signals: dict[str, Signal], messages: Sequence[Message[Any]], moments: Iterable[int]) -> None:
        self.signals, self.messages = signals, messages
        instants = [(message.time, count) for count, message in enumerate(messages, 1)]
        instants += [(moment, sum(message.time <= moment for message in messages)) for moment in moments]
        self.instants = sorted(set(instants))
        self.known: dict[tuple[Node, int], Any] = {}

    def truths(self, node: Node) -> list[tuple[int, int]]:
        """(time, truth) at every instant."""
        return [(time, self.truth(node, j)) for j, (time, _) in enumerate(self.instants)]

    def truth(self, node: Node, j: int) -> int:
        if (node, j) not in self.known:
            self.known[node, j] = self._truth(node, j)
        found: int = self.known[node, j]
        return found

    def _truth(self, node: Node, j: int) -> int:  # noqa: PLR0911 - one line for each kind
        match node:
            case syntax.Not():
                return -self.truth(node.operand, j)
            case syntax.And():
                return min(self.truth(part, j) for part in node.operands)
            case syntax.Or():
                return max(self.truth(part, j) for part in node.operands)
            case syntax.AtLeast():
                return sorted((self.truth(part, j) for part in node.operands), reverse=True)[node.count - 1]
            case syntax.For():
                return min(self.past(node.operand, j, self.instants[j][0] - node.window, j + 1))
            case syntax.Seen():
                return max(self.past(node.operand, j, self.instants[j][0] - node.window, j + 1))
            case syntax.Then():
                return self.sequence(node, j)
            case syntax.Compare():
                return self.comparison(node, j)
            case syntax.Change():
                return self.change(node, j)
            case syntax.Silent():
                heard = self.heard(node.signal, j)
                return UNKNOWN if not heard else TRUE if self.instants[j][0] - heard[-1][0] >= node.window else FALSE
            case syntax.State():
                return self.state(self.signals[node.signal], j)
        raise TypeError(node)

    def past(self, node: Node, j: int, begin: int, stop: int) -> list[int]:
        """What ``node`` was from ``begin`` to instant ``j``, of the instants before ``stop``; unknown before them all.

        An instant lasts until the next one.
        """
        found = [UNKNOWN] if begin < self.instants[0][0] else []
        for i in range(stop):
            if i == j or self.instants[i + 1][0] > begin:
                found.append(self.truth(node, i))
        return found

    def sequence(self, node: syntax.Then, j: int) -> int:
        second = self.truth(node.second, j)
        if second != TRUE:
            return second
        onset = j
        while onset > 0 and self.truth(node.second, onset - 1) == TRUE:
            onset -= 1
        return max(self.past(node.first, onset, self.instants[onset][0] - node.window, onset), default=UNKNOWN)

    # -- states

    def state(self, signal: Signal, j: int) -> int:
        time, count = self.instants[j]
        alive, until, present, heard = None, 0, {}, False
        for message in self.messages[:count]:
            payload, port = message.payload, PORTS[type(message.payload)]
            names = (message.stream, getattr(payload, "channel", "") or message.stream)
            vouched = [name for name in names for pattern in signal.alive if fnmatch.fnmatchcase(name, pattern)]
            if vouched or (not signal.alive and port == signal.kind != "conditions"):
                alive = message.time
            if port != signal.kind:
                continue
            word = {"conditions": "code", "events": "kind", "detections": "label"}[signal.kind]
            if not any(fnmatch.fnmatchcase(getattr(payload, word), pattern) for pattern in signal.patterns):
                continue
            about = getattr(payload, "subject" if port == "conditions" else "text", "")
            if not fnmatch.fnmatchcase(about, signal.subject) or getattr(payload, "score", 1.0) < signal.score:
                continue
            if port == "conditions":
                heard = True
                present[payload.source, payload.code, payload.subject] = payload.present and not payload.suppressed_by
            else:
                until = message.time + signal.hold
        if any(present.values()) or time < until:
            return TRUE
        if alive is not None and time < alive + signal.alive_for:
            return FALSE
        return FALSE if heard and not signal.alive else UNKNOWN

    # -- numbers

    def heard(self, name: str, j: int) -> list[tuple[int, Fraction, str]]:
        """The values of a signal so far: time, value, channel. Better channels first while they speak."""
        signal, count = self.signals[name], self.instants[j][1]
        if ("heard", name, count) in self.known:
            return self.known["heard", name, count]  # type: ignore[index, no-any-return]
        found, spoken = [], {}
        for message in self.messages[:count]:
            payload = message.payload
            place = rank(payload.channel, signal.patterns) if isinstance(payload, Numeric) else -1
            if place < 0:
                continue
            same = not signal.unit or payload.unit == signal.unit
            value = payload.value * (1.0 if same else CONVERSIONS.get((payload.unit, signal.unit), float("nan")))
            if not abs(value) < 1e15:
                continue
            spoken[place, payload.channel] = message.time
            best = min(key for key, seen in spoken.items() if message.time < seen + signal.hold)
            if best == (place, payload.channel):
                found.append((message.time, Fraction(round(value * 1_000_000), 1_000_000), payload.channel))
        self.known["heard", name, count] = found  # type: ignore[index]
        return found

    def window(self, name: str, length: int, j: int) -> tuple[list[tuple[int, Fraction]], bool, bool]:
        """Times and values in the window, whether it is covered, and whether the latest value still stands."""
        heard, hold, time = self.heard(name, j), self.signals[name].hold, self.instants[j][0]
        run, values = None, []
        for i, (moment, value, channel) in enumerate(heard):
            if i == 0 or heard[i - 1][2] != channel:
                run, values = moment, []
            elif moment - heard[i - 1][0] >= hold:
                run = moment
            values.append((moment, value))
        fresh = bool(heard) and time - heard[-1][0] < hold
        covered = run is not None and fresh and run <= time - length
        return [(moment, value) for moment, value in values if moment > time - length], covered, fresh

    def change(self, node: syntax.Change, j: int) -> int:
        values, covered, fresh = self.window(node.signal, node.window, j)
        if not fresh:
            return UNKNOWN
        latest = self.heard(node.signal, j)[-1][1]
        found = [value for _, value in values] or [latest]
        amount = Fraction(round(node.amount * 1_000_000), 1_000_000)
        extreme = max(found) if node.direction == "falls" else min(found)
        moved = extreme - latest if node.direction == "falls" else latest - extreme
        if (extreme > 0 and moved >= amount * extreme / 100) if node.percent else moved >= amount:
            return TRUE
        return FALSE if covered else UNKNOWN

    def number(self, node: Node, j: int) -> float | None:
        match node:
            case syntax.Number():
                return node.value
            case syntax.Value():
                _, _, fresh = self.window(node.signal, 1, j)
                return float(self.heard(node.signal, j)[-1][1]) if fresh else None
            case syntax.Aggregate():
                return self.aggregate(node, j)
            case syntax.Negative():
                inner = self.number(node.operand, j)
                return None if inner is None else -inner
        assert isinstance(node, syntax.Arithmetic)
        left, right = self.number(node.left, j), self.number(node.right, j)
        if left is None or right is None or (node.operator == "/" and right == 0):
            return None
        calculate = {"+": float.__add__, "-": float.__sub__, "*": float.__mul__, "/": float.__truediv__}
        return calculate[node.operator](left, right)

    def aggregate(self, node: syntax.Aggregate, j: int) -> float | None:
        found, covered, _ = self.window(node.signal, node.window, j)
        if not covered or not found:
            return None
        times, values = [Fraction(time, 60 * 10**9) for time, _ in found], [value for _, value in found]
        if node.function in ("min", "max"):
            return float(min(values) if node.function == "min" else max(values))
        mean = sum(values) / len(values)
        if node.function == "mean":
            return float(mean)
        middle = sum(times) / len(times)
        spread = sum((time - middle) ** 2 for time in times)
        if len(found) < 3 or spread == 0:
            return None
        return float(sum((t - middle) * (v - mean) for t, v in zip(times, values, strict=True)) / spread)

    def comparison(self, node: syntax.Compare, j: int) -> int:
        left, right = self.number(node.left, j), self.number(node.right, j)
        if left is None or right is None:
            return UNKNOWN
        if {"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[node.operator]:
            return TRUE
        before = [t for t in (self.truth(node, i) for i in range(j)) if t != UNKNOWN]
        if node.until is None or not before or before[-1] == FALSE:
            return FALSE
        until = self.number(node.until, j)
        if until is None:
            return UNKNOWN
        return TRUE if (left < until if node.operator[0] == "<" else left > until) else FALSE
