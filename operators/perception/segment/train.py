"""Makes ``weights/small.safetensors``: ``python -m operators.perception.segment.train``.

On one core about four minutes: a minute of rendering, three of learning on quarter crops, then the temperature and the
limit of abstention are set on development worlds. The held-out worlds of ``scenes`` are not touched here.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import cv2
import numpy as np
import torch

from operators.perception.segment import prompts, scenes
from operators.perception.segment.losses import total_loss
from operators.perception.segment.model import MedClipSeg, normalise, small
from operators.perception.segment.uncertainty import sample
from operators.runtime import weights
from pipeline.message import Array

WEIGHTS = Path(__file__).parent / "weights" / "small.safetensors"
STEPS, BATCH, CROP = 2000, 8, 112
RATE = 3e-3


def numbers() -> torch.Tensor:
    """(3, w) int64: the pinned prompts."""
    return torch.tensor([prompts.tokens(text) for text in prompts.PROMPTS.values()])


def gather(seeds: tuple[int, ...], count: int) -> tuple[Array, Array]:
    """Pictures (n, 224, 224, 3) uint8 and masks (n, 3, 224, 224) bool."""
    found = [sample for _, sample in scenes.pictures(seeds, count)]
    return np.stack([one.image for one in found]), np.stack([one.masks for one in found])


def crops(images: Array, masks: Array, random: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch of crops, disturbed as cameras differ: gain, gamma, hue a little, softness, noise, mirroring."""
    chosen_images, chosen_masks = [], []
    for index in random.integers(len(images), size=BATCH):
        side = int(random.integers(96, 160))
        room = images.shape[1] - side
        row, column = random.integers(0, room + 1, 2)
        rare = np.argwhere(masks[index][random.integers(2), ::8, ::8])
        if len(rare) and random.random() < 0.6:  # instruments and blood are small: half the crops look for them
            row, column = np.clip(8 * rare[random.integers(len(rare))] - random.integers(side, size=2), 0, room)
        window = np.s_[row : row + side, column : column + side]
        image = cv2.resize(images[index][window], (CROP, CROP), interpolation=cv2.INTER_LINEAR)
        truth = [cv2.resize(m[window].astype(np.float32), (CROP // 2, CROP // 2), interpolation=cv2.INTER_AREA)
                 for m in masks[index]]  # fmt: skip
        if random.random() < 0.3:
            image = cv2.GaussianBlur(image, (0, 0), random.uniform(0.4, 1.2))
        value = (image / 255.0) ** random.uniform(0.88, 1.14) * random.uniform(0.85, 1.15)
        value = value * random.uniform(0.96, 1.04, 3)  # more would turn liver into blood: they differ in hue alone
        value += random.normal(0, random.uniform(0, 0.02), image.shape)
        image = np.clip(value * 255, 0, 255).astype(np.uint8)
        flip = random.random() < 0.5
        chosen_images.append(image[:, ::-1] if flip else image)
        chosen_masks.append(np.stack(truth)[:, :, ::-1] if flip else np.stack(truth))
    return normalise(torch.from_numpy(np.stack(chosen_images))), torch.from_numpy(np.stack(chosen_masks))


def learn(model: MedClipSeg, images: Array, masks: Array, seed: int, steps: int = STEPS) -> None:
    """Train towers, adapters and head together: unlike CLIP's, ours have learnt nothing before."""
    from operators.perception.segment.model import repeat

    random = np.random.default_rng([seed, 1])
    words = numbers()
    noise = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps, pct_start=0.1)
    model.train()
    began, sums = time.monotonic(), []
    for step in range(steps):
        batch, truth = crops(images, masks, random)
        seen = repeat(model.see(batch), len(words))
        logits, patches, text = model(seen, words.repeat(len(batch), 1), noise)
        loss = total_loss(logits, truth.flatten(0, 1), patches, text, prompts=len(words))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        sums.append(loss.item())
        if step % 100 == 99:
            print(f"step {step + 1}: loss {np.mean(sums[-100:]):.4f}, {time.monotonic() - began:.0f} s", flush=True)
    model.eval()


def calibrate(model: MedClipSeg, images: Array, masks: Array) -> tuple[float, float]:
    """Temperature of the logits (least cross-entropy), and the mean entropy within a mask above which to abstain.

    The limit is the 98th percentile over development masks that agree with the truth (Dice above a half).
    """
    words, truth = numbers(), torch.from_numpy(masks)
    probabilities = []
    with torch.inference_mode():
        for image in images:
            answer = sample(model, normalise(torch.from_numpy(image[None])), words, 4, 0)
            probabilities.append(answer.probability[0])
    p = torch.stack(probabilities).clamp(1e-5, 1 - 1e-5)
    target = torch.nn.functional.avg_pool2d(truth.float(), 2)
    logits = p.logit()
    scores = {
        t: torch.nn.functional.binary_cross_entropy_with_logits(logits / t, target).item()
        for t in np.arange(0.6, 3.01, 0.1).round(1).tolist()
    }
    temperature = min(scores, key=scores.__getitem__)
    p = (logits / temperature).sigmoid()
    entropy = -(p * p.log() + (1 - p) * (1 - p).log())
    inside = []
    for picture, h, wanted in zip(p, entropy, target > 0.5, strict=True):
        for q, u, w in zip(picture > 0.5, h, wanted, strict=True):
            if q.sum() > 20 and 2 * (q & w).sum() / (q.sum() + w.sum()) > 0.5:
                inside.append(u[q].mean().item())
    return float(temperature), float(np.quantile(inside, 0.98))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--to", type=Path, default=WEIGHTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    torch.manual_seed(arguments.seed)
    began = time.monotonic()
    images, masks = gather(scenes.TRAINING, 24)
    print(f"{len(images)} pictures in {time.monotonic() - began:.0f} s", flush=True)
    model = small().to(memory_format=torch.channels_last)
    learn(model, images, masks, arguments.seed, arguments.steps)
    temperature, limit = calibrate(model, *gather(scenes.DEVELOPMENT, 16))
    arguments.to.parent.mkdir(exist_ok=True)
    weights.save(
        arguments.to, model.state_dict(), command="python -m operators.perception.segment.train", seed=arguments.seed,
        data=f"simulated: {len(images)} theatre pictures of worlds {scenes.TRAINING[0]}..{scenes.TRAINING[-1]}",
        prompts=prompts.digest(), temperature=f"{temperature:g}", abstain_entropy=f"{limit:.4f}", layout="small",
    )  # fmt: skip
    arguments.to.chmod(0o644)
    print(f"temperature {temperature:g}, abstention above {limit:.3f} nats; {time.monotonic() - began:.0f} s in all")


if __name__ == "__main__":
    main()
