"""Files with changed bytes, forged fields with right checksums, and small files that would become large."""

from __future__ import annotations

import itertools
import json
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

import xlens
from xlens.cli.arrays import read_array
from xlens.cli.inputs import Preprocessing, read_images
from xlens.cli.weights import read_weights
from xlens.errors import XlensError
from xlens.explanation import Explanation
from xlens.report.page import to_html

_TESTS = Path(__file__).parents[2] / "tests"
sys.path += [str(_TESTS / part) for part in ("", "stress", "cli")]
import forged  # noqa: E402
from faults import World  # noqa: E402
from test_cli_images import BOMBS, READERS  # noqa: E402

__all__ = ["bombs", "damaged"]

#: Seconds after which a file counts as one that hangs.
_HANGS = 20


class _Hang(Exception):
    """A file that was not done with in time."""


class Desk:
    """One of each file that xlens reads, and what a person does with it."""

    def __init__(self, folder: Path) -> None:
        self.world, self.folder = World(), folder
        self.world.explainer.save(folder / "lens")
        self.world.explain().save(folder / "why")
        draw = np.random.default_rng(0)
        pixels = draw.integers(0, 255, (12, 12, 3), dtype=np.uint8)
        for name in ("a.png", "a.jpg", "a.gif", "a.tif", "a.bmp", "a.webp"):
            Image.fromarray(pixels).save(folder / name)
        values = draw.random((4, 1, 8, 8)).astype(np.float32)
        np.savez(folder / "a.npz", x=values, y=np.arange(4))
        np.save(folder / "a.npy", values)
        torch.save({"x": torch.from_numpy(values)}, folder / "a.pt")
        save_file({"w": torch.zeros(3)}, folder / "w.safetensors")

    def lens(self) -> None:
        explainer = xlens.load(self.folder / "lens", self.world.model)
        explainer.explain(self.world.inputs[:2], n_steps=2, tolerance=0.9)
        repr(explainer)
        "".join(explainer.class_names).encode()

    def why(self) -> None:
        explanation = Explanation.load(self.folder / "why")
        repr(explanation), explanation[0], explanation.fidelity.to_markdown()
        to_html(explanation)

    def files(self) -> dict[str, tuple[Path, Callable[[], object]]]:
        """Return what is damaged, and what reads it."""
        found: dict[str, tuple[Path, Callable[[], object]]] = {
            "lens.json": (self.folder / "lens" / "lens.json", self.lens),
            "lens.safetensors": (self.folder / "lens" / "lens.safetensors", self.lens),
            "explanation": (self.folder / "why", self.why),
        }
        for path in sorted(self.folder.glob("a.*")):
            if path.suffix in (".npz", ".npy", ".pt"):
                found[path.suffix] = (path, lambda path=path: read_array(path))  # type: ignore[misc]
            else:
                found[path.suffix] = (path, lambda path=path: read_images([path], Preprocessing()))  # type: ignore[misc]
        found["weights"] = (self.folder / "w.safetensors", lambda: read_weights(self.folder / "w.safetensors"))
        return found


def with_other_bytes(content: bytes, draw: random.Random) -> bytes:
    """Return a file with some bytes changed, cut off, or with a part of it twice; most of it at the beginning."""
    changed = bytearray(content)
    for _ in range(draw.choice((1, 1, 4, 40))):
        changed[int(draw.random() ** 3 * len(changed))] = draw.randrange(256)
    at = draw.randrange(len(content))
    return bytes(draw.choice((changed, changed[:at], changed + changed[at:])))


def forgeries(desk: Desk, name: str) -> Iterator[Callable[[], None]]:
    """Yield what writes a lens or an explanation with one odd field and a checksum that fits."""
    path = desk.files()[name][0]
    if name == "lens.json":
        facts = forged.facts_of(path.parent)
        for place, value in itertools.product(forged.places(facts), (*forged.ODD, ...)):
            yield lambda p=place, v=value: forged.write_facts(path.parent, forged.with_field(facts, p, v))  # type: ignore[misc]
        return
    tensors, plain, kind = forged.tree_of(path)
    for place, value in itertools.product(forged.places(plain), (*forged.ODD, ...)):
        text = json.dumps(forged.with_field(plain, place, value))
        yield lambda text=text: forged.write_tree(path, tensors, text, kind)  # type: ignore[misc]
    for key in tensors:
        for odd in forged.odd_tensors(tensors[key]):
            other = {**tensors, key: odd.clone().contiguous()}
            yield lambda other=other: forged.write_tree(path, other, json.dumps(plain), kind)  # type: ignore[misc]


class Tally:
    """What came of the files of one kind."""

    def __init__(self) -> None:
        self.count = self.raw = self.hangs = 0
        self.longest = 0.0

    def read(self, reader: Callable[[], object]) -> None:
        """Read one file, and note what comes of it."""
        began = time.perf_counter()
        before = signal.signal(signal.SIGALRM, _hang)
        signal.alarm(_HANGS)
        try:
            reader()
        except XlensError:
            pass
        except _Hang:
            self.hangs += 1
        except Exception as fault:  # noqa: BLE001 - that is what is counted
            self.raw += 1
            print(f"raw: {type(fault).__name__}: {str(fault)[:200]}", file=sys.stderr)
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)
        self.count += 1
        self.longest = max(self.longest, time.perf_counter() - began)


def _hang(*_: Any) -> None:
    raise _Hang


def memory() -> int:
    """Return the most megabytes that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def damaged(times: int) -> None:
    """Print what comes of so many files with changed bytes, and of every forged field.

    Args:
        times: files with changed bytes, of all kinds together.
    """
    columns = "| file | change | files | raw errors | hangs | longest, s | memory gained, MB |"
    print(f"\n{columns}\n|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as where:
        desk = Desk(Path(where))
        for _, reader in desk.files().values():
            reader()
        kinds = desk.files()
        for name, (path, reader) in kinds.items():
            content, draw, tally, before = path.read_bytes(), random.Random(name), Tally(), memory()
            for _ in range(times // len(kinds)):
                path.write_bytes(with_other_bytes(content, draw))
                tally.read(reader)
            path.write_bytes(content)
            _print(name, "bytes", tally, memory() - before)
        for name in ("lens.json", "lens.safetensors", "explanation"):
            path, reader = kinds[name]
            if name == "lens.safetensors":
                # As a save that was stopped between its two files leaves it.
                (path.parent / "lens.json").unlink()
            tally, before = Tally(), memory()
            kept = shutil.copytree(path.parent, Path(where) / "kept") if path.parent.name == "lens" else None
            for write in forgeries(desk, name):
                write()
                tally.read(reader)
            if kept is not None:
                shutil.rmtree(path.parent)
                kept.rename(path.parent)
            _print(name, "fields and tensors, with right checksums", tally, memory() - before)


def _print(name: str, change: str, tally: Tally, gained: int) -> None:
    figures = f"{tally.count} | {tally.raw} | {tally.hangs} | {tally.longest:.1f} | {gained}"
    print(f"| {name} | {change} | {figures} |", flush=True)


def bombs() -> None:
    """Print what comes of small files that would become large: refused, and let in by the limit that is said."""
    print("\n| bomb | bytes | refused, with the limit | let in by it |\n|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as where, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, (kind, write) in BOMBS.items():
            path = Path(where) / f"small.{kind}"
            write(path)
            try:
                READERS[kind](path, max_bytes=1_000_000)
                wanted = None
            except XlensError as fault:
                wanted = int(str(fault).rpartition("--max-bytes ")[2].rstrip("."))
            in_words = "no" if wanted is None else f"{wanted:,}"
            READERS[kind](path, max_bytes=2 * (wanted or 1))
            print(f"| {name} | {path.stat().st_size:,} | {in_words} | yes |", flush=True)
