"""How many steps of the ODE the flow needs, before and after one round of reflow: error, edits, passes.

    python -m benchmarks.lenses.flow_steps --task digits --inputs 10 --reflow 300

Everything is of the first half of the test set, that on which defaults are chosen. `--reflow` trains a copy of the
fitted network for so many steps on straight lines between training images and the noise that they are run back to,
under the classifier's own probabilities; 15% of the pairs are of no condition, as in the fit.
"""

from __future__ import annotations

import argparse
import copy
import time

import torch
from torch import Tensor, nn
from xlens_flow import FlowLens, RectifiedFlow
from xlens_flow.health import inversion_errors
from xlens_flow.ode import backward

import xlens
from benchmarks.common.judges import judged, predicted, trained
from benchmarks.common.tasks import Task
from benchmarks.lenses.flow import EPOCHS, TASKS, chosen, fitted

#: Steps of the ODE and corrections of each step of the inversion.
TRIED = ((4, 0), (4, 8), (6, 8), (8, 0), (8, 8))
BATCH, DROP, RATE, AVERAGED = 48, 0.15, 5e-4, 0.99


def lens_of(explainer: xlens.LensExplainer, flow: nn.Module, steps: int, corrections: int) -> FlowLens:
    """Return a lens of the same network with other steps."""
    lens = RectifiedFlow(ode_steps=steps, corrections=corrections).build(explainer.classifier, explainer.spec)
    lens.flow.load_state_dict(flow.state_dict())
    return lens.eval()


def lines(
    task: Task, nets: dict[str, nn.Module], explainer: xlens.LensExplainer, flow: nn.Module, n: int, label: str
) -> None:
    """Print a line for each number of steps."""
    judges = dict(nets)
    model = judges.pop("f")
    index = chosen(task, model, n, held_out=False)
    inputs, target = task.test[index], task.test_labels[index]
    classes = len(task.class_names)
    drawn = torch.randint(1, classes, (len(index),), generator=torch.Generator().manual_seed(0))
    contrast = (target + drawn) % classes
    for steps, corrections in TRIED:
        lens = lens_of(explainer, flow, steps, corrections)
        counted: list[int] = []
        lens.flow.register_forward_pre_hook(lambda _flow, given, counted=counted: counted.append(len(given[0])))
        with torch.no_grad(), explainer.classifier.frozen(seed=0):
            codes = lens.encode(inputs)
            inversion = sum(counted) / len(inputs)
            decoded = lens.decode(codes)
            moved = lens.decode(lens.counterfactual(codes, target, contrast))
        edited = (inputs + moved - decoded).clamp(0, 1)
        errors = inversion_errors(lens, inputs, decoded)
        cells = [label, str(steps), str(corrections), f"{errors.mean():.1e}", f"{errors.max():.1e}"]
        cells += [f"{float((predicted(model, edited) == contrast).float().mean()):.3f}"]
        cells += [" / ".join(f"{judged(j, inputs, edited, target, contrast):.3f}" for j in judges.values())]
        cells += [f"{float((edited - inputs).abs().mean()):.4f}", f"{inversion:.0f}"]
        cells += [f"{sum(counted) / len(inputs):.0f}"]
        print("| " + " | ".join(cells) + " |", flush=True)


def reflowed(task: Task, explainer: xlens.LensExplainer, flow: nn.Module, steps: int) -> nn.Module:
    """Return a copy of the network, straightened by pairs of images and their noise."""
    generator = torch.Generator().manual_seed(0)
    noise, data, conditions = pairs(task, explainer, flow, generator)
    student = copy.deepcopy(flow).requires_grad_(True)
    averaged = copy.deepcopy(flow)
    optimizer = torch.optim.Adam(student.parameters(), RATE)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = RATE * (1 - step / steps)
        rows = torch.randint(len(noise), (BATCH,), generator=generator)
        times = (torch.randperm(BATCH, generator=generator) + torch.rand(BATCH, generator=generator)) / BATCH
        states = torch.lerp(noise[rows], data[rows], times.view(-1, 1, 1, 1))
        found = student(states, times, conditions[rows])
        optimizer.zero_grad()
        (found - (data[rows] - noise[rows])).square().mean().backward()
        optimizer.step()
        with torch.no_grad():
            for kept, new in zip(averaged.parameters(), student.parameters(), strict=True):
                kept.lerp_(new, 1 - AVERAGED)
    return averaged


@torch.no_grad()
def pairs(
    task: Task, explainer: xlens.LensExplainer, flow: nn.Module, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the noise of training images, the images in the flow's units, and their conditions."""
    lens = lens_of(explainer, flow, 8, 8)
    found = []
    with explainer.classifier.frozen(seed=0):
        for part in task.train.split(64):
            kept = torch.rand(len(part), 1, generator=generator) >= DROP
            conditions = kept * explainer.classifier.probabilities(part)

            def velocity(x: Tensor, time: float, step: int, rows: Tensor, given: Tensor = conditions) -> Tensor:
                return lens.flow(x, x.new_full((len(x),), time), given[rows])

            data = lens.flow.standardised(part)
            found.append((backward(velocity, data, 8, 8, lens.tolerance), data, conditions))
    noise, data, conditions = (torch.cat(parts) for parts in zip(*found, strict=True))
    return noise, data, conditions


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=tuple(TASKS), default="digits")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--inputs", type=int, default=10, help="of each class")
    parser.add_argument("--reflow", type=int, default=0, help="steps of one round; 0 leaves it out")
    asked = parser.parse_args()
    task = TASKS[asked.task](asked.seed)
    nets = trained(task, asked.seed, EPOCHS[asked.task])
    explainer, _ = fitted(task, nets["f"], "flow", asked.seed, {})
    flow = explainer.lens.flow
    print(
        "| network | steps | corrections | MSE | largest | classifier | judges | change (L1) | passes, inversion "
        "| passes |\n" + "|---" * 10 + "|"
    )
    lines(task, nets, explainer, flow, asked.inputs, "fitted")
    if asked.reflow:
        began = time.process_time()
        straight = reflowed(task, explainer, flow, asked.reflow)
        seconds = time.process_time() - began
        lines(task, nets, explainer, straight, asked.inputs, "reflowed")
        print(f"reflow: {seconds:.0f} CPU seconds")


if __name__ == "__main__":
    main()
