"""On-screen text: the insufflator's overlay in the picture, read as numbers, messages and alerts."""

from operators.perception.overlay.operator import Overlay

__all__ = ["Overlay"]
