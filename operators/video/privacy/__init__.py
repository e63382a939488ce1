"""Privacy guard: the first operator of every video topology. Nothing from outside the body, no text, no face."""

from operators.video.privacy.blank import uniform
from operators.video.privacy.guard import PrivacyGuard

__all__ = ["PrivacyGuard", "uniform"]
