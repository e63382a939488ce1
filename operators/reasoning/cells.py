"""Expressions at run time: one cell for each different node, brought up to date in event time, each in constant time.

All truth is a step function of time that only changes at messages and at moments that are known beforehand (``due``):
a value stops standing, a window loses its oldest value, a duration is over. So nothing is sampled, and what lasts
"for 60 s" is said after exactly 60 s. ``reference`` says the same slowly and plainly; tests compare the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from operators.reasoning import syntax
from operators.reasoning.signals import FALSE, MICRO, TRUE, UNKNOWN, Kept, Track, Watch
from operators.reasoning.syntax import Node
from operators.reasoning.windows import Extreme, Sums, Window

COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "<": lambda a, b: a < b, "<=": lambda a, b: a <= b, ">": lambda a, b: a > b, ">=": lambda a, b: a >= b,
}  # fmt: skip


class Cell(Kept):
    """One node. ``update`` must be called in time order, at every message that matters and at every ``due``."""

    kept = ("truth", "since")

    def __init__(self, node: Node, parts: tuple[Any, ...]) -> None:
        self.node, self.parts = node, parts
        self.value: float | None = None
        """Of a number; None for unknown."""
        self.truth = UNKNOWN
        self.since = 0
        """When it became true; for what lasts, when that began."""
        self.due: int | None = None
        """When it may change by itself, if nothing comes."""

    def update(self, time: int) -> None:
        raise NotImplementedError

    def become(self, truth: int, time: int) -> None:
        if truth == TRUE and self.truth != TRUE:
            self.since = self.began(time)
        self.truth = truth

    def began(self, time: int) -> int:
        return time


# ------------------------------------------------------------------------------------------ numbers


class Constant(Cell):
    """Is what it is: nobody has to bring it up to date."""

    def __init__(self, node: syntax.Number, parts: tuple[Cell, ...]) -> None:
        super().__init__(node, parts)
        self.value = node.value


class Latest(Cell):
    def __init__(self, node: Node, track: Track) -> None:
        super().__init__(node, ())
        self.track = track

    def update(self, time: int) -> None:
        self.due = self.track.end(time)
        self.value = self.track.value if self.due is not None else None


class Windowed(Cell):
    """``mean``, ``min``, ``max``, ``slope``: unknown until the signal was heard for the whole window."""

    def __init__(self, node: syntax.Aggregate, track: Track) -> None:
        super().__init__(node, ())
        self.function = node.function
        self.window: Any = (
            Sums(track, node.window)
            if self.function in ("mean", "slope")
            else Extreme(track, node.window, 1 if self.function == "max" else -1)
        )

    def update(self, time: int) -> None:
        window = self.window
        window.expire(time)
        self.due, self.value = window.due(time), None
        if window.covered(time):
            if self.function == "mean":
                self.value = window.mean()
            elif self.function == "slope":
                self.value = window.slope()
            else:
                micro = window.extreme()
                self.value = None if micro is None else micro / MICRO


class Sum(Cell):
    """Arithmetic of two numbers; what cannot be calculated is unknown."""

    def update(self, time: int) -> None:
        left, right = self.parts[0].value, self.parts[-1].value
        if left is None or right is None:
            self.value = None
            return
        match self.node:
            case syntax.Negative():
                self.value = -left
            case syntax.Arithmetic(operator="+"):
                self.value = left + right
            case syntax.Arithmetic(operator="-"):
                self.value = left - right
            case syntax.Arithmetic(operator="*"):
                self.value = left * right
            case _:
                self.value = left / right if right else None


# -------------------------------------------------------------------------------------------- truths


class Comparison(Cell):
    kept = ("truth", "since", "inside")

    def __init__(self, node: syntax.Compare, parts: tuple[Cell, ...]) -> None:
        super().__init__(node, parts)
        self.compare, self.below = COMPARISONS[node.operator], node.operator[0] == "<"
        self.inside = False
        """What it last was; silence does not make it forget."""

    def update(self, time: int) -> None:
        parts = self.parts
        left, right = parts[0].value, parts[1].value
        if left is None or right is None:
            self.become(UNKNOWN, time)
            return
        inside = self.compare(left, right)
        if not inside and self.inside and len(parts) == 3:
            until = parts[2].value
            if until is None:
                self.become(UNKNOWN, time)
                return
            inside = left < until if self.below else left > until
        self.inside = inside
        self.become(TRUE if self.inside else FALSE, time)


class Changed(Cell):
    """``rises`` and ``falls``: true as soon as it is seen; false only where the whole window was heard."""

    def __init__(self, node: syntax.Change, track: Track) -> None:
        super().__init__(node, ())
        self.track, self.sign = track, 1 if node.direction == "falls" else -1
        self.window = Extreme(track, node.window, self.sign)
        self.micro, self.percent = round(node.amount * MICRO), node.percent

    def update(self, time: int) -> None:
        window, track = self.window, self.track
        window.expire(time)
        self.due = window.due(time)
        if not track.fresh(time):
            self.become(UNKNOWN, time)
            return
        extreme = window.extreme()
        extreme = track.micro if extreme is None else extreme
        change = self.sign * (extreme - track.micro)
        # Of a percentage the amount is in millionths of a per cent.
        reached = extreme > 0 and change * 100 * MICRO >= self.micro * extreme if self.percent else change >= self.micro
        self.become(TRUE if reached else FALSE if window.covered(time) else UNKNOWN, time)
        if self.truth == FALSE and (extreme > 0 or not self.percent):
            # What leaves the window can only make the change smaller; nothing is a percentage of zero and less.
            self.due = track.end(time)


class Silence(Cell):
    def __init__(self, node: syntax.Silent, track: Track) -> None:
        super().__init__(node, ())
        self.track, self.length = track, node.window

    def update(self, time: int) -> None:
        heard = self.track.time
        end = None if heard is None else heard + self.length
        self.due = end if end is not None and end > time else None
        self.become(UNKNOWN if end is None else TRUE if time >= end else FALSE, time)

    def began(self, time: int) -> int:
        return self.track.time if self.track.time is not None else time


class Watched(Cell):
    def __init__(self, node: syntax.State, watch: Watch) -> None:
        super().__init__(node, ())
        self.watch = watch

    def update(self, time: int) -> None:
        self.due = self.watch.due(time)
        self.become(self.watch.truth(time), time)

    def began(self, time: int) -> int:
        return min(self.watch.since, time)


class Negation(Cell):
    def update(self, time: int) -> None:
        self.become(-self.parts[0].truth, time)


class Conjunction(Cell):
    def update(self, time: int) -> None:
        self.become(min(part.truth for part in self.parts), time)

    def began(self, time: int) -> int:
        return max(part.since for part in self.parts)


class Disjunction(Cell):
    def update(self, time: int) -> None:
        self.become(max(part.truth for part in self.parts), time)

    def began(self, time: int) -> int:
        return min(part.since for part in self.parts if part.truth == TRUE)


class Several(Cell):
    """At least so many of them."""

    def update(self, time: int) -> None:
        truths = sorted((part.truth for part in self.parts), reverse=True)
        self.become(truths[self.node.count - 1], time)  # type: ignore[attr-defined]

    def began(self, time: int) -> int:
        return sorted(part.since for part in self.parts if part.truth == TRUE)[self.node.count - 1]  # type: ignore[attr-defined]


class _Past(Cell):
    """Base of what looks back on one part: when it last stopped being this and being unknown."""

    kept = ("truth", "since", "before", "ended", "unknown_ended")
    wanted = TRUE

    def __init__(self, node: Any, parts: tuple[Cell, ...]) -> None:
        super().__init__(node, parts)
        self.length: int = node.window
        self.before = UNKNOWN
        """What the part was until now; before everything nothing is known of it."""
        self.ended: int | None = None
        """When it last stopped being ``wanted``."""
        self.unknown_ended: int | None = None

    def note(self, time: int, now: int) -> None:
        if self.before == self.wanted and now != self.wanted:
            self.ended = time
        if self.before == UNKNOWN and now != UNKNOWN:
            self.unknown_ended = time
        self.before = now

    def within(self, time: int, moment: int | None) -> bool:
        return moment is not None and moment > time - self.length


class Lasting(_Past):
    """``for``: false within the window makes it false, unknown within it unknown."""

    wanted = FALSE

    def update(self, time: int) -> None:
        self.look(time, self.parts[0].truth)

    def look(self, time: int, now: int) -> None:
        wanted = self.wanted
        if now != self.before:
            self.note(time, now)
        ended = 0 if self.ended is None else self.ended + self.length
        unknown = 0 if self.unknown_ended is None else self.unknown_ended + self.length
        if now == wanted or ended > time:
            truth = wanted
        elif now == UNKNOWN or unknown > time:
            truth = UNKNOWN
        else:
            truth = -wanted
        self.due = None
        if ended > time or unknown > time:
            self.due = ended if unknown <= time or time < ended < unknown else unknown
        if truth != self.truth:
            self.become(truth, time)

    def began(self, time: int) -> int:
        return self.parts[0].since


class Sighted(Lasting):
    """``seen``: true within the window makes it true, unknown within it unknown."""

    wanted = TRUE

    def began(self, time: int) -> int:
        return time


class Sequence(_Past):
    """``then``: decided at the moment at which the second becomes true, and kept while it is."""

    kept = (*_Past.kept, "last")

    def __init__(self, node: Any, parts: tuple[Cell, ...]) -> None:
        super().__init__(node, parts)
        self.last = UNKNOWN
        """What the second was until now."""

    def update(self, time: int) -> None:
        first, second = (part.truth for part in self.parts)
        truth = self.truth
        if second != TRUE:
            truth = second
        elif self.last != TRUE:
            if self.before == TRUE or self.within(time, self.ended):
                truth = TRUE
            elif self.before == UNKNOWN or self.within(time, self.unknown_ended):
                truth = UNKNOWN
            else:
                truth = FALSE
        self.last = second
        self.note(time, first)
        self.become(truth, time)

    def began(self, time: int) -> int:
        return self.parts[1].since


KINDS: dict[type[Node], type[Cell]] = {
    syntax.Number: Constant, syntax.Arithmetic: Sum, syntax.Negative: Sum, syntax.Compare: Comparison,
    syntax.Not: Negation, syntax.And: Conjunction, syntax.Or: Disjunction, syntax.AtLeast: Several,
    syntax.For: Lasting, syntax.Seen: Sighted, syntax.Then: Sequence,
}  # fmt: skip
LEAVES: dict[type[Node], type[Any]] = {
    syntax.Value: Latest, syntax.Aggregate: Windowed, syntax.Change: Changed, syntax.Silent: Silence,
    syntax.State: Watched,
}  # fmt: skip


class Formula(Kept):
    """Some expressions that are brought up to date together; equal parts of them are one cell."""

    def __init__(self, nodes: Iterable[Node | None], signals: dict[str, Track | Watch], index: int = 0) -> None:
        self.signals, self.index = signals, index
        self.cells: dict[Node, Cell] = {}
        """Parts before the whole."""
        self.roots = [None if node is None else self._cell(node) for node in nodes]
        self.order = [cell for cell in self.cells.values() if not isinstance(cell, Constant)]
        self.due: int | None = None

    def _cell(self, node: Node) -> Cell:
        cell = self.cells.get(node)
        if cell is None:
            if type(node) in LEAVES:
                cell = LEAVES[type(node)](node, self.signals[node.signal])  # type: ignore[attr-defined]
            else:
                cell = KINDS[type(node)](node, tuple(self._cell(part) for part in syntax.children(node)))
            self.cells[node] = cell
        return cell

    def update(self, time: int) -> None:
        """Bring everything up to ``time``; ``due`` is then when something may change by itself."""
        due = None
        for cell in self.order:
            cell.update(time)
            moment = cell.due
            if moment is not None and (due is None or moment < due) and moment > time:
                due = moment
        self.due = due

    def state(self) -> dict[str, Any]:
        return {"cells": [cell.state() for cell in self.order], "due": self.due,
                "windows": [window.state() for window in self._windows()]}  # fmt: skip

    def load_state(self, state: dict[str, Any]) -> None:
        self.due = state["due"]
        for cell, kept in zip(self.order, state["cells"], strict=True):
            cell.load_state(kept)
        for window, kept in zip(self._windows(), state["windows"], strict=True):
            window.load_state(kept)

    def _windows(self) -> list[Window]:
        return [window for cell in self.order if isinstance(window := getattr(cell, "window", None), Window)]
