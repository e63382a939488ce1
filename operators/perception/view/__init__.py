"""What the camera sees at all: inside or outside the body, trocar, covered lens, no picture; smoke, colour faults."""

from operators.perception.view.features import NAMES, FloatArray, features

__all__ = ["NAMES", "FloatArray", "features"]
