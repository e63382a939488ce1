"""What the camera sees at all: inside or outside the body, trocar, covered lens, no picture; smoke, colour faults."""

from operators.perception.view.features import NAMES, FloatArray, features
from operators.perception.view.model import in_body
from operators.perception.view.state import ViewState
from operators.perception.view.view import View

__all__ = ["NAMES", "FloatArray", "View", "ViewState", "features", "in_body"]
