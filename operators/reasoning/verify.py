"""Fast alert, slow verification: what was said at once is confirmed, enriched or demoted when a slower check knows.

An alert reaches the alert machine by its own edge; ``Verify`` stands beside that edge, never in it, so it can delay
nothing. It says the same condition again (same source, code, subject, onset) with ``verified`` set, which the machine
takes as a revision of that alert and of no other: a verdict that comes after the end is dropped there. A verdict's
event time is later than its alert's by at least a nanosecond, so that it follows it on every way, however edges lie.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, get_args

import msgspec

from operators.reasoning.preset import Check
from operators.reasoning.signals import FALSE, TRUE
from operators.reasoning.syntax import duration, print_expression
from operators.reasoning.watcher import PresetConfig, Watcher
from operators.rules import seconds
from pipeline.alerts.machine import RANK
from pipeline.message import Abstain, AlertCondition, Event, Evidence, Message, Priority, Verdict
from pipeline.operator import Input, Outputs, to_plain

MOST_CASES = 256
"""Alerts under verification at once; a further one takes the oldest one's place."""
KIND = "verdict"
"""``Event.kind`` of what a verifying operator answers on ``verdicts``."""


def verdict(
    condition: AlertCondition, answer: Literal["confirm", "enrich", "demote"], text: str = "",
    evidence: Sequence[Evidence] = (), priority: Priority | None = None,
) -> Event:  # fmt: skip
    """What a verifying operator sends about an alert that it was shown.

    Args:
        condition: the alert as it came.
        answer: ``confirm``, ``enrich`` (more is known, nothing is judged) or ``demote``.
        text: a sentence that is added to the alert's.
        evidence: what the answer stands on.
        priority: what to demote to; the check's own where None. It never raises.
    """
    name = {"source": condition.source, "code": condition.code, "subject": condition.subject, "onset": condition.onset}
    return Event(KIND, text, {**name, "answer": answer, "priority": priority, "evidence": to_plain(list(evidence))})


class Case(msgspec.Struct):
    """One alert under verification."""

    condition: AlertCondition
    """As its own rule last said it."""
    check: int
    asked: int
    """Event time from which the deadline counts."""
    verdict: Verdict = ""
    again: int | None = None
    """Event time at which the verdict is to be told."""
    priority: Priority | None = None
    text: str = ""
    evidence: tuple[Evidence, ...] = ()


class Verify(Watcher):
    """Verifies the alerts that a preset's `checks` name.

    A check with a `confirm` expression is decided here, over whatever window the expression has; what was demoted and
    goes on is confirmed after all, at its own priority, as soon as `confirm` is true. One without waits for
    an operator that hears the same alerts and answers on `verdicts` (see ``verdict``). Either has a deadline in event
    time, counted from the alert. Where none can be given by then, the alert is told again as `unverified`; where an
    operator did not answer, it is besides a technical condition until it answers in time again.
    """

    class Config(PresetConfig):
        preset: str = "default"
        """Name of a shipped preset (`default`, `theatre`), or the path of a preset file with `checks`."""

    candidates: Input[AlertCondition]
    """The alerts to verify, from the very ports that the alert machine is fed by."""
    verdicts: Input[Event | Abstain] | None

    def __init__(self, config: Any = None, *, name: str = "", **options: Any) -> None:
        super().__init__(config, name=name, **options)
        self.checks: tuple[Check, ...] = self.preset.checks
        for check in self.checks:
            self.formula((check.confirm, check.refute))
        self.cases: dict[tuple[str, str, str], Case] = {}
        self.unknown = 0
        """Verdicts about alerts that are over or were never shown."""
        self.silent: dict[int, int] = {}
        """Check to the time since which its verifying operator has not answered."""

    # -- what comes in

    def on_candidates(self, message: Message[AlertCondition]) -> Outputs:
        """Take up what a check names; forget what is over; give a verdict again that its own rule overwrote."""
        said: list[Message[Any]] = []
        time, condition = self.reach(message, said), message.payload
        key = (condition.source, condition.code, condition.subject)
        case = self.cases.get(key)
        if condition.verified:
            return said  # another verifier's word is nothing to verify
        if not condition.present or condition.suppressed_by:
            self.cases.pop(key, None)
        elif case is None or case.condition.onset != condition.onset:
            self._take_up(key, condition, time)
        elif case.condition != condition:
            worse = RANK[condition.priority] > RANK[case.condition.priority]
            case.condition = condition
            if worse:  # what was verified was less than this
                case.asked, case.verdict, case.again, case.evidence = time, "", None, ()
            elif case.verdict:
                case.again = time + 1
        self.rearm()
        return said

    def on_verdicts(self, message: Message[Event | Abstain]) -> Outputs:
        """Take an answer in. One that names no alert under verification is counted and left out."""
        said: list[Message[Any]] = []
        time, payload = self.reach(message, said), message.payload
        if isinstance(payload, Abstain) or payload.kind != KIND:
            return said  # the deadline says what follows from it
        data = payload.data
        case = self.cases.get((str(data.get("source")), str(data.get("code")), str(data.get("subject"))))
        answer = {"confirm": "confirmed", "enrich": "enriched", "demote": "demoted"}.get(str(data.get("answer")))
        if case is None or answer is None or case.condition.onset != data.get("onset"):
            self.unknown += 1
            return said
        check = self.checks[case.check]
        wished = data.get("priority")
        priority = wished if wished in get_args(Priority) else check.demote_to or "low"
        note = f"{answer} by {message.stream.partition('.')[0]} {self._took(case, time)}"
        proof = (Evidence(message.stream, case.condition.onset, time, note=note), *_evidence(data.get("evidence")))
        said += self._answered(case.check, time, message)
        text = payload.text or self.worded(check.text, time)
        said += self._conclude(case, answer, time, message, text, proof, priority)
        self.rearm()
        return said

    def judge(self, index: int, time: int, cause: Message[Any] | None) -> Iterable[Message[AlertCondition]]:
        for case in list(self.cases.values()):
            if case.check == index:
                yield from self._decide(case, time, cause)

    def overdue(self, time: int) -> Iterable[Message[AlertCondition]]:
        for case in list(self.cases.values()):
            yield from self._decide(case, time, None)

    def dues(self) -> Iterator[int | None]:
        yield from super().dues()
        for case in self.cases.values():
            if case.verdict:
                yield case.again
            else:
                yield case.asked + (1 if self.now <= case.asked else self.checks[case.check].deadline)

    def finish(self) -> Outputs:
        return [said for index in list(self.silent) for said in self._answered(index, self.now, None)]

    # ------------------------------------------------------------------------------------ private

    def _take_up(self, key: tuple[str, str, str], condition: AlertCondition, time: int) -> None:
        self.cases.pop(key, None)
        for index, check in enumerate(self.checks):
            fits = any(fnmatch.fnmatchcase(condition.code, pattern) for pattern in check.codes)
            if fits and fnmatch.fnmatchcase(condition.source, check.source):
                if len(self.cases) >= MOST_CASES:
                    del self.cases[next(iter(self.cases))]
                self.cases[key] = Case(condition, index, time)
                return

    def _decide(self, case: Case, time: int, cause: Message[Any] | None) -> Iterable[Message[AlertCondition]]:
        check, formula = self.checks[case.check], self.formulas[case.check]
        late = time >= case.asked + check.deadline
        if case.verdict and case.again is not None and time >= case.again:
            case.again = None
            yield self._tell(case, time, cause)
        if time <= case.asked or case.verdict in ("confirmed", "enriched"):
            return
        if check.confirm is None:
            if late and not case.verdict:
                yield from self._no_answer(case, time, cause)
            return
        confirm, refute = formula.roots
        assert confirm is not None
        proof = lambda root: (self._statement(case, time, root.node), *self.proof(root, formula, time))  # noqa: E731
        if confirm.truth == TRUE:
            yield from self._conclude(case, "confirmed", time, cause, self.worded(check.text, time), proof(confirm))
        elif case.verdict:
            return  # only what confirms it takes a demotion back
        elif refute is not None and refute.truth == TRUE:
            yield from self._conclude(case, "demoted", time, cause, "", proof(refute), check.demote_to)
        elif late and refute is None and check.demote_to and confirm.truth == FALSE:
            yield from self._conclude(case, "demoted", time, cause, "", proof(confirm), check.demote_to)
        elif late:
            yield from self._conclude(case, "unverified", time, cause, "", proof(confirm))

    def _no_answer(self, case: Case, time: int, cause: Message[Any] | None) -> Iterable[Message[AlertCondition]]:
        check = self.checks[case.check]
        note = f"not verified: no answer within {duration(check.deadline)}"
        proof = (Evidence("", case.asked, time, note=note),)
        yield from self._conclude(case, "unverified", time, cause, "", proof)
        if case.check not in self.silent:
            self.silent[case.check] = time
            yield self._silence(case.check, time, cause)

    def _answered(self, index: int, time: int, cause: Message[Any] | None) -> Iterable[Message[AlertCondition]]:
        if index in self.silent:
            yield self._silence(index, time, cause, ended=time)
            del self.silent[index]

    def _silence(
        self, index: int, time: int, cause: Message[Any] | None, ended: int | None = None
    ) -> Message[AlertCondition]:  # fmt: skip
        codes = ", ".join(self.checks[index].codes)
        text = f"Nobody verifies {codes}: no answer within {duration(self.checks[index].deadline)}."
        return self.say(
            time, cause, code="verifier_silent", subject=codes, present=ended is None, priority="low",
            kind="technical", text=text if ended is None else f"{codes}: verified again, or the run is over.",
            onset=self.silent[index], ended=ended,
        )  # fmt: skip

    def _conclude(
        self, case: Case, answer: Any, time: int, cause: Message[Any] | None, text: str,
        proof: tuple[Evidence, ...], priority: Priority | None = None,
    ) -> Iterable[Message[AlertCondition]]:  # fmt: skip
        case.verdict, case.evidence, case.text = answer, proof, text
        case.priority = priority if answer == "demoted" else None
        case.again = case.asked + 1 if time <= case.asked else None
        return [self._tell(case, time, cause)] if case.again is None else []

    def _tell(self, case: Case, time: int, cause: Message[Any] | None) -> Message[AlertCondition]:
        """The alert once more, with the verdict. Nothing that its own rule said is lost."""
        condition, priority = case.condition, case.priority
        lower = priority is not None and RANK[priority] < RANK[condition.priority]
        revised = msgspec.structs.replace(
            condition, verified=case.verdict, priority=priority if lower else condition.priority,
            text=f"{condition.text} {case.text}".rstrip(), evidence=(*condition.evidence, *case.evidence),
        )  # fmt: skip
        if cause is not None:
            return self.conditions.emit(revised, cause, time=time)
        return self.conditions.first(revised, time, origin=self.origin)

    def _statement(self, case: Case, time: int, node: Any) -> Evidence:
        rule = self.rule()
        words = f"verified {self._took(case, time)} by {rule.name} {rule.version} ({rule.digest})"
        return Evidence("", case.condition.onset, time, note=f"{words}: {print_expression(node)}")

    def _took(self, case: Case, time: int) -> str:
        deadline = duration(self.checks[case.check].deadline)
        return f"{seconds(time - case.asked)} after it was said (deadline {deadline})"

    def state(self) -> dict[str, Any]:
        return {**super().state(), "cases": to_plain(list(self.cases.values())),
                "silent": [list(pair) for pair in self.silent.items()]}  # fmt: skip

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        if state.get("digest") == self.preset.digest:
            for case in msgspec.convert(state["cases"], list[Case]):
                condition = case.condition
                self.cases[condition.source, condition.code, condition.subject] = case
            self.silent = dict(state["silent"])
            self.rearm()


def _evidence(given: Any) -> tuple[Evidence, ...]:
    """Evidence from an answer, as far as it is any."""
    try:
        found = msgspec.convert(given or [], list[Evidence])
    except msgspec.ValidationError:
        return (Evidence("", 0, 0, note="the verifier's evidence could not be read"),)
    return tuple(one for one in found[:8] if all(map(math.isfinite, one.values)))
