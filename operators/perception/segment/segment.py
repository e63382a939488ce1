"""The operator: masks of instruments, blood and smoke in pictures, and how sure they are, in nats."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pydantic

from operators.perception.segment import prompts
from operators.runtime import weights as stored
from operators.video.colour import rgb
from pipeline.message import NANOSECONDS, Abstain, Array, Event, Mask, Message, VideoFrame
from pipeline.operator import Config as BaseConfig
from pipeline.operator import Input, Operator, Output, Outputs

if TYPE_CHECKING:
    from operators.perception.segment.checkpoint import Opened

WEIGHTS = Path(__file__).parent / "weights" / "small.safetensors"
ORDER = (3, 2, 1)
"""Where several classes are found in one pixel, later ones are written over earlier: an instrument hides blood, and
both are named rather than the smoke before them."""
SMALLEST = 32
"""Shortest side of a picture that is looked at, pixels."""
FOUND = 40
"""Pixels of a class below which its uncertainty is not judged."""


class Segment(Operator):
    """Text-prompted segmentation with Monte-Carlo uncertainty. Meant for placement ``thread``.

    The same picture at the same event time gives the same masks in every replay: the noise of the samples is drawn
    from a seed made of ``seed`` and the event time. Results are for display and for other operators, never an alarm.
    """

    version = "1"

    class Config(BaseConfig):
        weights: Path | None = None
        """A safetensors file of the small layout or of a converted checkpoint; the shipped one unless given."""
        size: int = pydantic.Field(default=224, ge=64, le=512, multiple_of=16)
        """Side of the square that the whole frame is squeezed to, pixels; masks have this size."""
        samples: int = pydantic.Field(default=2, ge=0, le=4)
        """Monte-Carlo passes of a picture; 0 takes means instead of drawing, and has no mutual information."""
        every: float = pydantic.Field(default=0.1, ge=0, le=3600)
        """Seconds of event time between two pictures that are looked at; others are let go."""
        threshold: float = pydantic.Field(default=0.5, gt=0, lt=1)
        """Probability above which a pixel belongs to a class."""
        abstain: bool = True
        """Leave a class out of a picture where its mask is too unsure, and say so on ``abstentions``."""
        seed: int = pydantic.Field(default=0, ge=0, lt=2**32)
        """What the noise of the samples follows from."""
        threads: int = pydantic.Field(default=1, ge=0, le=64)
        """Threads that torch may use in this process; 0 leaves them as they are. More than one core helps little."""

    video: Input[VideoFrame]
    masks: Output[Mask]
    """Class map over the whole frame at ``size`` by ``size``; ``confidence`` is the probability of the label given."""
    facts: Output[Event]
    """For each picture and class: area, mean predictive entropy and mutual information within the mask (nats)."""
    abstentions: Output[Abstain]

    def __init__(self, config: Any = None, *, name: str = "", **options: Any) -> None:
        super().__init__(config, name=name, **options)
        self._latest: int | None = None
        self._model: Opened | None = None
        self._weights = ""

    def setup(self) -> None:
        """Load the weights. Raises ``VigilError`` where they do not fit."""
        import torch

        from operators.perception.segment.checkpoint import open_model

        path = self.config.weights or WEIGHTS
        if self.config.threads:
            torch.set_num_threads(self.config.threads)
        self._model, self._weights = open_model(path), stored.digest(path)

    def teardown(self) -> None:
        self._model = None

    def process(self, message: Message[VideoFrame]) -> Outputs:
        """Masks of one picture, or nothing where the last one is too recent, or an abstention."""
        frame, latest = message.payload, self._latest
        if latest is not None and 0 <= message.time - latest < 0.95 * self.config.every * NANOSECONDS:
            return None
        self._latest = message.time
        if frame.corrupt or min(frame.width, frame.height) < SMALLEST:
            why = "the picture is damaged" if frame.corrupt else f"the picture is {frame.width}x{frame.height}"
            return self.abstentions.emit(Abstain(self.name, "unusable_picture", why), message)
        probability, entropy, information = self._ask(rgb(frame), message.time)
        return self._answer(message, probability, entropy, information)

    def _ask(self, image: Array, time: int) -> tuple[Array, Array, Array]:
        """Probability, predictive entropy and mutual information, each (3, size, size) float32."""
        import torch

        from operators.perception.segment.model import normalise
        from operators.perception.segment.uncertainty import calibrated, sample

        assert self._model is not None, "setup() has not run"
        size = self.config.size
        shrinks = min(image.shape[:2]) >= size
        square = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        seed = int.from_bytes(hashlib.sha256(f"{self.config.seed} {time}".encode()).digest()[:7])
        with torch.inference_mode():
            batch = normalise(torch.from_numpy(np.ascontiguousarray(square))[None])
            answer = sample(self._model.model, batch, self._model.numbers, self.config.samples, seed)
            temperature = float(self._model.metadata.get("temperature", 1))
            planes = calibrated(answer, temperature, size)
        return tuple(plane[0].numpy() for plane in planes)  # type: ignore[return-value]

    def _answer(self, message: Message[VideoFrame], p: Array, entropy: Array, information: Array) -> Outputs:
        assert self._model is not None
        limit = float(self._model.metadata.get("abstain_entropy", "inf"))
        labels = np.zeros(p.shape[1:], np.uint8)
        confidence = 1 - p.max(0)
        facts: dict[str, Any] = {}
        unsure = []
        for value in ORDER:
            name, inside = prompts.CLASSES[value], p[value - 1] > self.config.threshold
            area = int(inside.sum())
            mean = float(entropy[value - 1][inside].mean()) if area else 0.0
            spread = float(information[value - 1][inside].mean()) if area else 0.0
            left_out = self.config.abstain and area >= FOUND and mean > limit
            facts[name] = {"area": area / inside.size, "entropy": round(mean, 4), "information": round(spread, 5),
                           "abstained": left_out}  # fmt: skip
            if left_out:
                unsure.append(f"{name} {mean:.3f} > {limit:.3f} nats")
            else:
                labels[inside] = value
                confidence[inside] = p[value - 1][inside]
        data = {"classes": facts, "prompts": prompts.digest(), "weights": self._weights,
                "samples": self.config.samples, "unit": "nats", "frame": message.sequence}  # fmt: skip
        said: list[Message[Any]] = [
            self.masks.emit(Mask(labels, prompts.CLASSES, confidence.astype(np.float32)), message),
            self.facts.emit(Event("segmentation", data=data), message),
        ]
        if unsure:
            said.append(self.abstentions.emit(Abstain(self.name, "uncertain", "; ".join(unsure)), message))
        return said

    def state(self) -> dict[str, Any]:
        return {"latest": self._latest}

    def load_state(self, state: dict[str, Any]) -> None:
        self._latest = state.get("latest")
