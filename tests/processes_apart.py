"""What two processes do where they differ, or one of them fails: run by test_processes.py under torchrun.

torchrun --nproc_per_node 2 tests/processes_apart.py FOLDER
"""

import json
import os
import sys
import warnings
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
import toys
from accelerate.data_loader import prepare_data_loader
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset
from two_processes import INPUTS, MASK, Linear, interrupt
from xlens_medxgan.networks import Prior

import xlens
from xlens.training import Processes

RANK = int(os.environ.get("RANK", "0"))
BATCHES = list(INPUTS.split(30))


def fault_of(ask):
    """Return the class and the message of what it raises; also of a wait that ran out of time."""
    try:
        ask()
    except Exception as fault:
        return f"{type(fault).__name__}: {fault}"
    return "nothing"


def fit(data=INPUTS, model=None, **options):
    return xlens.fit(model or toys.trained_cnn(), data, Linear(), mask=MASK, progress=False, **options)


def running_statistics(folder):
    model = nn.Sequential(nn.BatchNorm2d(1), toys.trained_cnn()).eval()
    model[0].running_mean += 0.1 * RANK
    model[0].num_batches_tracked += 5 + RANK
    before = {key: value.clone() for key, value in model.state_dict().items()}
    explainer = fit(model=model)
    explainer.save(folder / "normalised")
    return {
        "kept": all(torch.equal(value, before[key]) for key, value in model.state_dict().items()),
        "scores": explainer.explain(INPUTS[:4], n_steps=2).scores.tolist(),
        "by hand": model(INPUTS[:4]).detach().topk(2).values.diff().neg()[:, 0].tolist(),
        "own": explainer.classifier.fingerprint(),
        "saved": json.loads((folder / "normalised" / "lens.json").read_text())["fingerprint"],
        "lens": [value.tolist() for value in explainer.lens.state_dict().values()],
        "mask": [value.tolist() for value in explainer.mask.state_dict().values()],
    }


def sharded_loaders():
    whole = DataLoader(TensorDataset(INPUTS), batch_size=20)
    sampled = DataLoader(whole.dataset, batch_size=20, sampler=DistributedSampler(whole.dataset, 2, RANK))
    prepared = prepare_data_loader(whole, num_processes=2, process_index=RANK)
    # The same inputs, so the same range and moments, in another order.
    turned = BATCHES if RANK == 0 else BATCHES[::-1]
    return {
        "sampled": fault_of(lambda: fit(sampled)),
        "prepared": fault_of(lambda: fit(prepared)),
        "turned": fault_of(lambda: fit(turned)),
    }


def other_buffers():
    model = nn.Sequential(nn.BatchNorm2d(1, affine=False, track_running_stats=RANK == 0), toys.trained_cnn())
    return fault_of(lambda: fit(model=model))


def one_fails(folder):
    explainer = fit()
    (folder / "in the way").touch()

    def in_the_way(_event):
        # The first alone writes a checkpoint, to where a folder is by then.
        (folder / "run" / "linear.checkpoint").mkdir(parents=True, exist_ok=True)

    spoilt = INPUTS.clone()
    spoilt[3, 0, 0, 0] = torch.nan if RANK else 0
    return {
        "save": fault_of(lambda: explainer.save(folder / "in the way")),
        "checkpoint": fault_of(lambda: fit(output_dir=folder / "run", on_step=in_the_way)),
        "survey": fault_of(lambda: fit(spoilt)),
    }


def resumed_apart(folder):
    own = folder / f"resumed{RANK}"
    own.mkdir()
    with suppress(KeyboardInterrupt):
        fit(output_dir=own, on_step=interrupt)
    absent = fault_of(lambda: fit(output_dir=own, resume=True))
    if RANK == 1:
        (own / "linear.checkpoint").write_bytes(b"cut off")
    return {"absent": absent, "damaged": fault_of(lambda: fit(output_dir=own, resume=True))}


def prior_of_shares():
    """Return how far the factor that two find is from the one that a single process finds."""
    drawn = torch.randn(20, 15, 3, generator=torch.Generator().manual_seed(0))
    alone, shared = Prior(3), Prior(3)
    together = Processes(RANK, 2)
    for codes in drawn + torch.arange(15).view(1, -1, 1) % 2:
        alone.follow(codes, Processes())
        shared.follow(codes[RANK::2], together)
        together.average_buffers([shared])
    return float((shared.factor - alone.factor).abs().max() / alone.factor.abs().max())


def main(folder: Path) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    # A process that waits in vain says so soon.
    dist.init_process_group("gloo", timeout=timedelta(seconds=20))
    found = {
        "running statistics": running_statistics(folder),
        "sharded": sharded_loaders(),
        "other buffers": other_buffers(),
        "one fails": one_fails(folder),
        "resumed": resumed_apart(folder),
        "prior": prior_of_shares(),
    }
    (folder / f"rank{RANK}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
