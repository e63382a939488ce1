"""Segmentation of instruments, blood and smoke: MedCLIPSeg, and a small model of our own that runs on a CPU."""

from operators.perception.segment.segment import Segment

__all__ = ["Segment"]
