"""Build the sdist and the wheel into dist/, the wheel from the sdist; the tree has to give the same wheel."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
DIST = ROOT / "dist"


def run(*command: str) -> None:
    """Run a command in the repository, and say which."""
    print("==", *command, flush=True)
    subprocess.run(command, cwd=ROOT, check=True)


def contents(wheel: Path) -> dict[str, str]:
    """Return each file of a wheel with its hash; RECORD only lists them."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/RECORD")]
        return {name: hashlib.sha256(archive.read(name)).hexdigest() for name in names}


def main() -> None:
    """Build, compare, check."""
    shutil.rmtree(DIST, ignore_errors=True)
    run(sys.executable, "-m", "build", "--outdir", str(DIST), str(ROOT))
    (wheel,) = DIST.glob("*.whl")
    with tempfile.TemporaryDirectory() as other:
        run(sys.executable, "-m", "build", "--wheel", "--outdir", other, str(ROOT))
        (again,) = Path(other).glob("*.whl")
        one, two = contents(wheel), contents(again)
    different = sorted(name for name in one.keys() | two.keys() if one.get(name) != two.get(name))
    if different:
        sys.exit(f"the wheel of the sdist is not that of the tree: {', '.join(different[:10])}")
    # The example plugin is a distribution of its own: it is built apart, and knows nothing of the tree.
    plugins = ROOT / "dist" / "plugin"
    run(sys.executable, "-m", "build", "--outdir", str(plugins), str(ROOT / "examples" / "xlens_latentshift"))
    files = [str(path) for folder in (DIST, plugins) for path in sorted(folder.iterdir()) if path.is_file()]
    run(sys.executable, "-m", "twine", "check", "--strict", *files)


if __name__ == "__main__":
    main()
