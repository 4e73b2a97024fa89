"""How much of a lens's contract handling the conformance kit holds fast.

Removes one statement at a time from the classes of two plugins' lens.py and backend.py (methods of the contract,
options, class attributes; no docstrings, no imports, no functions beside the classes), runs the kit on what is
left, and counts what it catches. What runs out of time or breaks the process is counted by itself: no check said
anything. It stops where the kit finds fault with a plugin as it is.

    python -m benchmarks.engine.mutations --count 50 --seed 1
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_SIMPLE = (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Expr, ast.Return, ast.Raise, ast.Delete)

_MEDXGAN = """
from xlens_medxgan import MedXGAN
small = {"steps": 8, "width": 4, "nuisance_code": 8, "class_code": 4, "batch_size": 16}
learned = MedXGAN(steps=300, width=8)
candidates = [
    Candidate(MedXGAN(**small), learned=learned),
    Candidate(MedXGAN(**small, encoder=False, inversion_steps=8), learned=learned),
]
"""
_LATENTSHIFT = """
import sys
sys.path.insert(0, {tests!r})
import test_latentshift
from safetensors.torch import load_file
autoencoder = test_latentshift.Convolutional()
autoencoder.load_state_dict(load_file({weights!r}))
from xlens_latentshift import LatentShift, register
backend = LatentShift(autoencoder=register(autoencoder, "a"))
candidates = [Candidate(backend, shape=(1, 8, 8), expected_failures=test_latentshift.EXPECTED)]
"""
_RUN = """
import torch
torch.set_num_threads(1)
from xlens.testing import Candidate
from xlens.testing.bench import Bench
from xlens.testing.checking import all_checks
{candidate}
print("READY", flush=True)
learned = {}
benches = [
    Bench(candidate, expected=candidate.expected_failures, learned=learned) for candidate in candidates
]
for check in all_checks():
    for bench in benches:
        if check.applies(bench.backend) and check.id not in bench.candidate.expected_failures:
            result = bench.result(check)
            if result.status == "failed":
                raised = "an exception in " if "Error:" in result.message else ""
                print("CAUGHT by " + raised + check.id)
                raise SystemExit
print("SURVIVED")
"""


_KINDS = (
    "caught by what a check says",
    "caught by an exception within a check",
    "not imported or constructed, before any check",
    "crashed",
    "timed out",
    "survived",
)


@dataclass(frozen=True)
class Mutant:
    """One statement to be removed.

    Args:
        package: folder of the plugin's package.
        file: name of the file in it.
        where: the class and function that it is in.
        first, last: its lines, counted from 1.
    """

    package: Path
    file: str
    where: str
    first: int
    last: int

    def text(self) -> str:
        """Return the first line of the statement."""
        return (self.package / self.file).read_text().splitlines()[self.first - 1].strip()

    def write(self, folder: Path) -> None:
        """Copy the package without the statement."""
        shutil.copytree(self.package, folder / self.package.name, ignore=shutil.ignore_patterns("__pycache__"))
        path = folder / self.package.name / self.file
        lines = path.read_text().splitlines()
        line = lines[self.first - 1]
        lines[self.first - 1 : self.last] = [line[: len(line) - len(line.lstrip())] + "pass"]
        path.write_text("\n".join(lines) + "\n")


def mutants(package: Path, file: str) -> list[Mutant]:
    """Return every statement of the classes in a file that can be removed."""
    found = []

    def visit(body: list[ast.stmt], where: str) -> None:
        for node in body:
            docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            if isinstance(node, _SIMPLE) and not docstring:
                found.append(Mutant(package, file, where, node.lineno, node.end_lineno))
            elif isinstance(node, ast.FunctionDef | ast.ClassDef):
                visit(node.body, f"{where}.{node.name}".lstrip("."))
            else:
                for part in ("body", "orelse", "finalbody"):
                    visit(getattr(node, part, []), where)
                visit([s for handler in getattr(node, "handlers", []) for s in handler.body], where)

    tree = ast.parse((package / file).read_text())
    visit([node for node in tree.body if isinstance(node, ast.ClassDef)], "")
    return found


def judge(mutant: Mutant | None, candidate: str, limit: float, run: str = _RUN) -> str:
    """Run the kit on a mutant, or on the plugin itself.

    Args:
        mutant: None for the plugin itself.
        candidate: the lines that make `candidates`.
        limit: seconds.
        run: the program, in which the candidate's lines take the place of ``{candidate}``.

    Returns:
        what caught it, ``SURVIVED``, ``TIMED OUT``, ``NOT IMPORTED`` or ``CRASHED`` with the reason.
    """
    with tempfile.TemporaryDirectory() as name:
        if mutant is not None:
            mutant.write(Path(name))
        environment = {**os.environ, "PYTHONPATH": name, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-W", "ignore", "-c", run.replace("{candidate}", candidate)]
        try:
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=limit, cwd=name)
        except subprocess.TimeoutExpired:
            return "TIMED OUT"
    last = (done.stdout.strip().splitlines() or [""])[-1]
    if done.returncode == 0 and (last == "SURVIVED" or last.startswith("CAUGHT by ")):
        return last
    reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    # A plugin that cannot be imported or constructed never meets the kit.
    return f"{'NOT IMPORTED' if 'READY' not in done.stdout else 'CRASHED'}: {reason}"


def _kind(found: str) -> str:
    starts = {"CAUGHT by an exception": 1, "CAUGHT by": 0, "NOT IMPORTED": 2, "CRASHED": 3, "TIMED OUT": 4}
    return _KINDS[next((place for start, place in starts.items() if found.startswith(start)), 5)]


def trained_autoencoder(folder: Path) -> Path:
    """Train the autoencoder of the example's tests once, for all of its mutants."""
    tests = ROOT / "examples" / "xlens_latentshift" / "tests"
    path = folder / "autoencoder.safetensors"
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_latentshift as t; "
        "from safetensors.torch import save_file; "
        "save_file(t.trained_convolutional().state_dict(), sys.argv[2])"
    )
    subprocess.run([sys.executable, "-c", code, str(tests), str(path)], check=True)
    return path


def main() -> None:
    """Judge a sample of mutants and print each, then the share that was caught."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=240.0, help="seconds for one mutant")
    parser.add_argument("--only", type=int, nargs="*", help="numbers within the sample; all if left out")
    parser.add_argument("--list", action="store_true", help="print the sample and stop")
    chosen = parser.parse_args()
    example = ROOT / "examples" / "xlens_latentshift"
    medxgan, latentshift = ROOT / "plugins" / "xlens_medxgan", example / "src" / "xlens_latentshift"
    files = [(package, file) for package in (medxgan, latentshift) for file in ("backend.py", "lens.py")]
    every = [mutant for package, file in files for mutant in mutants(package, file)]
    sample = sorted(random.Random(chosen.seed).sample(every, chosen.count), key=every.index)
    print(f"{chosen.count} of {len(every)} statements, seed {chosen.seed}", flush=True)
    if chosen.list:
        print("\n".join(f"{m.package.name}/{m.file}:{m.first} {m.where}: {m.text()}" for m in sample))
        return
    with tempfile.TemporaryDirectory() as name:
        weights = str(trained_autoencoder(Path(name)))
        candidates = {
            medxgan: _MEDXGAN,
            latentshift: _LATENTSHIFT.format(tests=str(example / "tests"), weights=weights),
        }
        for package, candidate in candidates.items():
            found = judge(None, candidate, chosen.limit)
            print(f"{package.name} as it is: {found}", flush=True)
            if found != "SURVIVED":
                raise SystemExit("with a plugin that fails by itself every mutant would count as caught")
        counts = Counter()
        numbered = [(i, m) for i, m in enumerate(sample, 1) if not chosen.only or i in chosen.only]
        for i, mutant in numbered:
            began = time.perf_counter()
            found = judge(mutant, candidates[mutant.package], chosen.limit)
            counts[_kind(found)] += 1
            place = f"{mutant.package.name}/{mutant.file}:{mutant.first} {mutant.where}"
            print(f"{i:3} {time.perf_counter() - began:5.1f} s  {found:80} {place}: {mutant.text()}", flush=True)
    print(f"| outcome | of {len(numbered)} |\n|---|---|")
    print("\n".join(f"| {kind} | {counts[kind]} |" for kind in _KINDS))
    caught = counts[_KINDS[0]] + counts[_KINDS[1]]
    print(f"caught by a check: {caught} of {len(numbered)} ({caught / len(numbered):.0%})")
    # What raises would be noticed without a kit as well; what does not is the harder part.
    silent = counts[_KINDS[0]] + counts["survived"]
    print(f"of the {silent} that raise nothing: {counts[_KINDS[0]]} ({counts[_KINDS[0]] / max(silent, 1):.0%})")


if __name__ == "__main__":
    main()
