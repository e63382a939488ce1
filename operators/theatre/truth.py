"""What a case has planted, and how the alerts of a run compare with it."""

from __future__ import annotations

import dataclasses
import fnmatch
from typing import Annotated

import pydantic
from pydantic import Field


class Expectation(pydantic.BaseModel):
    """An alert that something planted raises: its ``code``, and which subject it is about."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    code: str = Field(min_length=1, max_length=80)
    """Shell pattern over ``AlertCondition.code``."""
    subject: str = Field(default="*", min_length=1, max_length=200)
    """Shell pattern over ``AlertCondition.subject``."""
    tail: Annotated[float, Field(ge=0, le=600, allow_inf_nan=False)] = 20.0
    """Seconds after the planted thing has ended in which the alert may still begin or go on (recovery, averaging)."""

    def fits(self, code: str, subject: str) -> bool:
        """Whether an alert is the one meant."""
        return fnmatch.fnmatchcase(code, self.code) and fnmatch.fnmatchcase(subject, self.subject)


@dataclasses.dataclass(frozen=True)
class Planted:
    """One thing that the script makes happen. Times are event time, ns."""

    kind: str
    """What ``do`` says in the script."""
    onset: int
    end: int
    expect: tuple[Expectation, ...] = ()
    """Alerts that must come; empty where nothing may."""
    allow: tuple[Expectation, ...] = ()
    """Alerts that are true meanwhile but need not come."""
    text: str = ""
