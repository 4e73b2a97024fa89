"""A diffusion model of somebody's own as the flow: digits, by a small UNet2DModel of diffusers.

    python -m benchmarks.lenses.flow_diffusion --seed 0 --prediction v_prediction

Trains the diffusion model on the labels of the training images, without a look at the classifier (it is kept), and
takes it as a lens, which trains nothing: the figures are those of `benchmarks.lenses.flow`.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

import xlens
from benchmarks.common.cache import CACHE
from benchmarks.common.judges import trained
from benchmarks.common.tasks import Task, digits
from benchmarks.lenses.flow import EPOCHS, measure

BATCH, DROP = 64, 0.15


def diffusion(task: Task, seed: int, prediction: str, steps: int) -> tuple[Path, float]:
    """Return the folder of a diffusion model of the task's classes, and the CPU seconds of its training."""
    folder = CACHE / f"diffusion-{task.name}-{prediction}-{seed}-{steps}"
    kept = folder / "seconds.txt"
    if kept.exists():
        return folder, float(kept.read_text())
    torch.manual_seed(seed)
    none = len(task.class_names)
    unet = UNet2DModel(
        sample_size=task.train.shape[-1],
        in_channels=1,
        out_channels=1,
        layers_per_block=1,
        block_out_channels=(32, 64),
        norm_num_groups=8,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        num_class_embeds=none + 1,
    )
    scheduler = DDPMScheduler(prediction_type=prediction)
    optimizer = torch.optim.Adam(unet.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, steps)
    generator = torch.Generator().manual_seed(seed)
    began = time.process_time()
    for _ in range(steps):
        rows = torch.randint(len(task.train), (BATCH,), generator=generator)
        images, noise = 2 * task.train[rows] - 1, torch.randn(BATCH, *task.train.shape[1:], generator=generator)
        times = torch.randint(scheduler.config.num_train_timesteps, (BATCH,), generator=generator)
        left_out = torch.rand(BATCH, generator=generator) < DROP
        labels = task.train_labels[rows].masked_fill(left_out, none)
        velocity = scheduler.get_velocity(images, noise, times)
        wanted = noise if prediction == "epsilon" else velocity
        found = unet(scheduler.add_noise(images, noise, times), times, labels).sample
        loss = (found - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    seconds = time.process_time() - began
    DDPMPipeline(unet, scheduler).save_pretrained(folder)
    kept.write_text(str(seconds))
    return folder, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--prediction", choices=("epsilon", "v_prediction"), default="v_prediction")
    parser.add_argument("--steps", type=int, default=1500, help="of the diffusion model's training")
    parser.add_argument("--inputs", type=int, default=20, help="judged inputs of each class")
    asked = parser.parse_args()
    task = digits()
    judges = trained(task, asked.seed, EPOCHS[task.name])
    model = judges.pop("f")
    folder, seconds = diffusion(task, asked.seed, asked.prediction, asked.steps)
    classifier = xlens.Classifier(model, class_names=task.class_names)
    began = time.process_time()
    explainer = xlens.fit(classifier, task.train, "flow", diffusion=str(folder), seed=asked.seed, progress=False)
    rows = {
        "diffusion model, CPU seconds": seconds,
        "fit of the lens, CPU seconds": time.process_time() - began,
    }
    rows |= measure(task, model, judges, explainer, asked.inputs)
    print("| figure | diffusion |\n|---|---|")
    for name, value in rows.items():
        print(f"| {name} | {value:.4g} |")


if __name__ == "__main__":
    main()
