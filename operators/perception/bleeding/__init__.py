"""Bleeding: an alert where blood spreads over tissue."""

from operators.perception.bleeding.rule import Bleeding

__all__ = ["Bleeding"]
