"""Fusion by rules: many signals in, one alert out, with the proof. The rules are those of a preset; see LANGUAGE.md."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from typing import Any

from operators.reasoning import syntax
from operators.reasoning.cells import Formula
from operators.reasoning.preset import Rule
from operators.reasoning.signals import TRUE, Kept, Track
from operators.reasoning.watcher import PresetConfig, Watcher
from operators.rules import NOT_WATCHED, seconds
from pipeline.message import AlertCondition, Message
from pipeline.operator import Outputs


class Firing(Kept):
    """One rule at work."""

    kept = ("onset", "rejected", "cleared")

    def __init__(self, rule: Rule, formula: Formula) -> None:
        self.rule, self.formula = rule, formula
        self.onset: int | None = None
        """While it is present or was rejected."""
        self.rejected = ""
        """Why nobody is told."""
        self.cleared = 0


class Rules(Watcher):
    """Raises the alerts of a preset's rules over numerics, conditions of other operators, events and detections.

    A rule begins at the moment its `when` becomes true and ends when its `clear` does; what is not observed neither
    begins nor ends one. Where its `unless` is true at the beginning, the candidate is said with ``suppressed_by``.
    Each alert carries its proof: stream, interval, values and verdict of every elementary part, also of those that
    were not observed, and the preset's name, version and digest.
    """

    class Config(PresetConfig):
        preset: str = "default"
        """Name of a shipped preset (`default`, `theatre`), or the path of a preset file."""
        only: tuple[str, ...] = ("*",)
        """Shell patterns over codes: only these rules are at work."""

    def __init__(self, config: Any = None, *, name: str = "", **options: Any) -> None:
        super().__init__(config, name=name, **options)
        self.firings = [
            Firing(rule, self.formula((rule.when, rule.clear, rule.unless)))
            for rule in self.preset.rules
            if any(fnmatch.fnmatchcase(rule.code, pattern) for pattern in self.config.only)
        ]

    def judge(self, index: int, time: int, cause: Message[Any] | None) -> Iterable[Message[AlertCondition]]:
        firing = self.firings[index]
        when, clear, unless = firing.formula.roots
        assert when is not None
        assert clear is not None
        rejects = unless is not None and unless.truth == TRUE
        if firing.onset is None:
            if when.truth != TRUE or clear.truth == TRUE:
                return
            firing.onset, firing.rejected = when.since, self._reason(firing.rule) if rejects else ""
            yield self._begin(firing, time, cause)
        elif clear.truth == TRUE:
            yield self._end(firing, time, cause, clear.since)
        elif firing.rejected and when.truth == TRUE and not rejects:
            yield self._end(firing, time, cause, time)
            firing.onset = when.since
            yield self._begin(firing, time, cause)

    def finish(self) -> Outputs:
        return [self._end(firing, self.now, None, self.now, NOT_WATCHED)
                for firing in self.firings if firing.onset is not None]  # fmt: skip

    # ------------------------------------------------------------------------------------ private

    def _reason(self, rule: Rule) -> str:
        assert rule.unless is not None
        return rule.because or syntax.print_expression(rule.unless)

    def _begin(self, firing: Firing, time: int, cause: Message[Any] | None) -> Message[AlertCondition]:
        when, _, unless = firing.formula.roots
        assert when is not None
        proof = self.proof(when, firing.formula, time)
        if unless is not None:
            proof += self.proof(unless, firing.formula, time)
        return self._say(firing, time, cause, self.worded(firing.rule.text, time), proof)

    def _end(
        self, firing: Firing, time: int, cause: Message[Any] | None, ended: int, note: str = ""
    ) -> Message[AlertCondition]:  # fmt: skip
        _, clear, _ = firing.formula.roots
        assert firing.onset is not None
        assert clear is not None
        ended = max(ended, firing.onset)
        code = firing.rule.code.replace("_", " ")
        text = f"Over after {seconds(ended - firing.onset)}: {code}. {note}".rstrip()
        said = self._say(firing, time, cause, text, self.proof(clear, firing.formula, time), ended)
        firing.onset, firing.rejected = None, ""
        return said

    def _say(
        self, firing: Firing, time: int, cause: Message[Any] | None, text: str, proof: Any, ended: int | None = None
    ) -> Message[AlertCondition]:  # fmt: skip
        rule, value, limit, unit = firing.rule, None, None, ""
        for node in syntax.walk(rule.when):
            match node:  # the first plain limit of the rule is the one that people are shown
                case syntax.Compare(left=syntax.Value(signal=name), right=syntax.Number(value=limit)):
                    track = self.signals[name]
                    assert isinstance(track, Track)
                    value, unit = track.value if track.time is not None else None, track.signal.unit
                    break
        return self.say(
            time, cause, code=rule.code, present=ended is None, priority=rule.priority, kind=rule.kind, text=text,
            onset=firing.onset, ended=ended, value=value, limit=limit, unit=unit, evidence=proof,
            suppressed_by=firing.rejected,
        )  # fmt: skip

    def state(self) -> dict[str, Any]:
        return {**super().state(), "firings": {firing.rule.code: firing.state() for firing in self.firings}}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        if state.get("digest") == self.preset.digest:
            for firing in self.firings:
                if firing.rule.code in state["firings"]:
                    firing.load_state(state["firings"][firing.rule.code])
