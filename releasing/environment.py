"""An empty virtual environment with the built wheel: newest or lowest versions, the smoke script, some tests.

python releasing/environment.py newest --python python3.12
python releasing/environment.py lowest --tests
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
HERE = Path(__file__).parent
#: What the smoke script needs; and what tests try: every extra that users install, and what tests are made with.
EXTRAS = ("hub",)
TRIED = ("dicom", "hub", "label", "lightning", "nifti")
TOOLS = ("hypothesis>=6.100", "pandas>=2.0", "pytest>=8.0")


def run(command: list[str], folder: Path, **environment: str) -> None:
    """Run a command in a folder, and say which; nothing of the tree is on its path."""
    print("==", " ".join(command), flush=True)
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(command, cwd=folder, check=True, env=kept | environment)


def install(python: Path, versions: str, folder: Path, tests: bool) -> None:
    """Install the wheel with its extras, and the example plugin's wheel.

    The lowest versions are uv's to find: what pyproject.toml names, each at its lower bound.
    """
    (wheel,) = (ROOT / "dist").glob("*.whl")
    (plugin,) = (ROOT / "dist" / "plugin").glob("*.whl")
    extras, tools = (TRIED, TOOLS) if tests else (EXTRAS, ())
    if versions == "lowest":
        uv = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", str(python)]
        # Of a wheel, what it depends on is not direct, and would be the newest.
        named = [part for extra in extras for part in ("--extra", extra)]
        run([*uv, "--resolution", "lowest-direct", "-r", str(ROOT / "pyproject.toml"), *named, *tools], folder)
        run([*uv, "--no-deps", str(wheel), str(plugin)], folder)
    else:
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        run([*pip, f"{wheel}[{','.join(extras)}]", *tools], folder)
        run([*pip, "--no-deps", str(plugin)], folder)


def try_tests(python: Path, versions: str, folder: Path) -> None:
    """Run the tests that the list for these versions names, a line at a time, on the installed package alone."""
    shutil.copytree(ROOT / "tests", folder / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    config = folder / "pytest.ini"
    config.write_text(
        "[pytest]\npythonpath = tests\nfilterwarnings = error::RuntimeWarning:xlens\n", encoding="utf-8"
    )
    for line in (HERE / f"{versions}.txt").read_text(encoding="utf-8").splitlines():
        run([str(python), "-m", "pytest", "-q", *line.split()], folder, OMP_NUM_THREADS="1")


def main() -> None:
    """Make it, try it, and remove it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("versions", choices=("newest", "lowest"))
    parser.add_argument("--python", default=sys.executable, help="the interpreter of the environment")
    parser.add_argument("--tests", action="store_true", help="run the tests of newest.txt or lowest.txt as well")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        run([chosen.python, "-m", "venv", str(folder / "env")], folder)
        python = folder / "env" / "bin" / "python"
        install(python, chosen.versions, folder, chosen.tests)
        work = folder / "work"
        work.mkdir()
        run([str(python), str(HERE / "smoke.py")], work)
        if chosen.tests:
            try_tests(python, chosen.versions, work)


if __name__ == "__main__":
    main()
