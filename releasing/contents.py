"""What the built wheel and sdist hold: budgets of size, what has to be there, and what must not be."""

from __future__ import annotations

import sys
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

DIST = Path(__file__).parents[1] / "dist"
#: Bytes that each may have as it is downloaded, and one file in it as it is unpacked.
BUDGETS = {".whl": (4_000_000, 1_500_000), ".tar.gz": (6_000_000, 1_500_000)}
#: What the package reads at run time, or says to type checkers and lawyers.
NEEDED = (
    "xlens/py.typed",
    "xlens/fitting/overloads.pyi",
    "xlens/datasets/coffee/leaves.zip",
    "xlens/datasets/coffee/LICENSE",
    "xlens/report/templates/",
    "xlens_medxgan/__init__.py",
)
LARGEST = 5


def sizes(path: Path) -> dict[str, int]:
    """Return each file of an archive with its size."""
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as archive:
            return {entry.filename: entry.file_size for entry in archive.infolist() if not entry.is_dir()}
    with tarfile.open(path) as archive:
        # The first folder is the name of the release.
        return {entry.name.partition("/")[2]: entry.size for entry in archive.getmembers() if entry.isfile()}


def faults(kind: str, whole: int, found: Mapping[str, int]) -> list[str]:
    """Return what is wrong with an archive of so many bytes that holds these files.

    Args:
        kind: ``".whl"`` or ``".tar.gz"``.
        whole: bytes of the archive.
        found: name -> bytes of each file.
    """
    most, each = BUDGETS[kind]
    wrong = [f"{whole:,} bytes, and may have {most:,}"] if whole > most else []
    wrong += [f"{name}: {size:,} bytes, and may have {each:,}" for name, size in found.items() if size > each]
    if kind == ".whl":
        wrong += [f"{name} is a test" for name in found if "/tests/" in f"/{name}" or "conftest" in name]
        tops = {name.partition("/")[0] for name in found}
        wrong += [f"{top}: only xlens, its plugins and its metadata" for top in tops if not top.startswith("xlens")]
        wrong += [f"{name} is missing" for name in NEEDED if not any(one.startswith(name) for one in found)]
    wrong += [f"{name} is no file for others" for name in found if name.endswith((".pyc", ".pkl"))]
    return wrong


def main() -> None:
    """Say what is largest; end with 1 where anything is wrong."""
    wrong = []
    for path in sorted((*DIST.glob("*.whl"), *DIST.glob("*.tar.gz"))):
        kind = ".whl" if path.suffix == ".whl" else ".tar.gz"
        found = sizes(path)
        print(f"{path.name}: {path.stat().st_size:,} bytes, {len(found)} files; the largest, unpacked:")
        for name in sorted(found, key=lambda name: -found[name])[:LARGEST]:
            print(f"  {found[name]:>10,}  {name}")
        wrong += [f"{path.name}: {fault}" for fault in faults(kind, path.stat().st_size, found)]
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
