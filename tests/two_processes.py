"""What one and two processes do alike: run by test_processes.py, in its own process and under torchrun.

torchrun --nproc_per_node 2 tests/two_processes.py FOLDER
"""

import json
import os
import sys
import warnings
from pathlib import Path

import torch
import toys
from ours import OPTIONS, TRAINED, around, mask_for
from safetensors.torch import save_file
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import xlens
import xlens.storage.lenses
from xlens.registry.loading import load_backend
from xlens.training import Trainer, alone

RANK = int(os.environ.get("RANK", "0"))
#: Short, and fitted on few inputs: what is tested is that the processes agree.
MASK = xlens.MaskOptions(steps=3, pool=64)
INPUTS = toys.pictures(90, seed=1)[0]


class LinearLens(xlens.Lens):
    """A linear autoencoder with what is easily out of step: a buffer that follows the batches."""

    def __init__(self):
        super().__init__()
        self.coder = nn.Linear(64, 12)
        self.coder.register_buffer("mean", torch.zeros(64))

    def encode(self, inputs):
        return self.coder(inputs.flatten(1) - self.coder.mean)

    def decode(self, codes):
        return (codes @ self.coder.weight + self.coder.mean).view(-1, 1, 8, 8)

    def counterfactual(self, codes, target, contrast):
        return -codes

    @property
    def features(self):
        return (xlens.Feature("all", tuple(range(12)), "class"),)


@xlens.options
class Linear(xlens.Backend):
    """No noise and nothing that compares inputs, so that two processes have to give what one gives."""

    name = "linear"
    steps: int = xlens.param(12, ge=1, help="training steps")

    def build(self, classifier, spec):
        return LinearLens()

    def fit(self, classifier, data, run):
        lens = self.build(classifier, run.spec)
        trainer = Trainer(
            run, "linear", networks={"coder": lens.coder}, steps=self.steps, ema={"coder": 0.8}, clip=0.5,
            optimizers={"coder": torch.optim.Adam(lens.coder.parameters(), 1e-2)}, checkpoint_every=4,
        )  # fmt: skip

        def step(batch):
            loss = (lens.decode(lens.encode(batch.inputs)) - batch.inputs).square().mean()
            trainer.minimise(loss, "coder")
            # After the loss: within a step every process knows its own share alone.
            with torch.no_grad():
                lens.coder.mean.lerp_(batch.inputs.flatten(1).mean(0), 0.2)
            return {"mse": loss}

        trainer.fit(data, step, batch_size=20)
        lens.coder.load_state_dict(trainer.averaged("coder").state_dict())
        return lens


class Read(Dataset):
    """Inputs by position, and which of them were read."""

    def __init__(self, inputs):
        self.inputs, self.read = inputs, []

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, i):
        self.read.append(i)
        return self.inputs[i]


def interrupt(event):
    if event.step == 7:
        raise KeyboardInterrupt


def main(folder: Path) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    model, found = toys.trained_cnn(), {}
    explainer = xlens.fit(model, INPUTS, Linear(), output_dir=folder / "run", mask=MASK, progress=False)
    explainer.save(folder / "lens")
    found |= {f"lens.{key}": value for key, value in explainer.lens.state_dict().items()}
    found |= {f"mask.{key}": value for key, value in explainer.mask.state_dict().items() if "maps" not in key}

    # A stream of the user's own, shuffled, with a last batch of one input.
    loader = DataLoader(TensorDataset(INPUTS[:61]), batch_size=20, shuffle=True)
    streamed = xlens.fit(model, loader, Linear(), mask=MASK, progress=False)
    found |= {f"streamed.{key}": value for key, value in streamed.lens.state_dict().items()}

    try:
        xlens.fit(
            model, INPUTS, Linear(), on_step=interrupt, output_dir=folder / "again", mask=MASK, progress=False
        )
    except KeyboardInterrupt:
        resumed = xlens.fit(
            model, INPUTS, Linear(), output_dir=folder / "again", resume=True, mask=MASK, progress=False
        )
        found |= {f"resumed.{key}": value for key, value in resumed.lens.state_dict().items()}

    # Lenses with noise and many losses: their processes have to stay in step, whatever they learn. One need not.
    alike = {}
    for name in TRAINED if "WORLD_SIZE" in os.environ else ():
        small = load_backend(name)(**{**OPTIONS.get(name, ({},))[0], "steps": 4})
        noisy = xlens.fit(around(model, name), INPUTS, small, mask=mask_for(name, MASK), progress=False)
        alike |= {f"{name}.{key}": value for key, value in noisy.lens.state_dict().items()}

    # One and the same lens.
    asked = xlens.load(folder.parent / "one" / "lens", model)
    explanation = asked.explain(INPUTS[:7], attributions=("lig", "ig_counterfactual"))
    explanation.save(folder / "explanation")
    explanation.save_html(folder / "why.html")
    for name in ("counterfactual", "scores", "path", "codes", "mask"):
        found[f"explained.{name}"] = getattr(explanation, name)
    found |= {f"explained.{name}": value for name, value in explanation.attributions.items()}
    found |= {f"explained.{name}": getattr(explanation.fidelity, name).float() for name in ("mse", "flips")}
    found["one input"] = asked.explain(INPUTS[:1]).counterfactual
    # To disk, where each writes other parts.
    data = Read(INPUTS[:7])
    asked.explain_to(folder / "explanations", data, rows=2, attributions=(), progress=False)
    (folder / f"read-rank{RANK}.json").write_text(json.dumps(sorted(data.read)))
    if RANK == 1:
        with alone():
            asked.explain(INPUTS[:2])
    try:
        xlens.fit(model, INPUTS + RANK, Linear(), mask=MASK, progress=False)
    except xlens.errors.DataError as fault:
        print(fault)
    tensors = {key: value.clone().contiguous() for key, value in (found | alike).items()}
    save_file(tensors, folder / f"rank{RANK}.safetensors")


def stand_in(setattr=setattr) -> None:
    """Have loading find the backend by name, as if it were installed."""
    setattr(xlens.storage.lenses, "load_backend", lambda name: Linear if name == "linear" else load_backend(name))


if __name__ == "__main__":
    stand_in()
    main(Path(sys.argv[1]))
