"""The photographs that ship with xlens, packed from BRACOL: healthy leaves, and leaves with rust and nothing else.

    python -m benchmarks.common.pack_leaves --data coffee

`--data` is a folder with ``labels.csv``, ``leaf/`` and ``LICENSE``, the one that
``benchmarks.ground_truth.photographs`` takes. Writes ``xlens/datasets/coffee/leaves.zip``: CLASS/ID.jpg, where ID
is the source's own number. The same photographs and the same Pillow make the same file, byte for byte.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import zipfile
from pathlib import Path

from PIL import Image

import xlens.datasets

SIDE, QUALITY = 96, 85
#: Leaves of each class, and the column of the source that names its one disease.
COUNT, DISEASE = 264, "rust"
OTHERS = ("miner", "phoma", "cercospora")
#: Zip files hold the time of each member; one that means nothing keeps the file the same.
WHEN = (1980, 1, 1, 0, 0, 0)
TARGET = Path(xlens.datasets.__file__).parent / "coffee" / "leaves.zip"


def chosen(rows: list[dict[str, str]], count: int) -> dict[str, list[str]]:
    """Return class -> IDs; which of the leaves with rust are taken is drawn by a hash of their numbers."""
    healthy = [row["id"] for row in rows if row["predominant_stress"] == "0" and not _ill(row)]
    ill = [row["id"] for row in rows if _ill(row) == (DISEASE,)]
    return {
        name: sorted(sorted(ids, key=_drawn)[:count], key=int)
        for name, ids in (("healthy", healthy), (DISEASE, ill))
    }


def pack(folder: Path, target: Path, *, count: int = COUNT) -> None:
    """Write the file."""
    with (folder / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as packed:
        _add(packed, "LICENSE", (folder / "LICENSE").read_bytes())
        for name, ids in chosen(rows, count).items():
            for number in ids:
                _add(packed, f"{name}/{number}.jpg", _small(folder / "leaf" / f"{number}.jpg"))


def _ill(row: dict[str, str]) -> tuple[str, ...]:
    return tuple(name for name in (DISEASE, *OTHERS) if int(row[name]))


def _drawn(number: str) -> str:
    return hashlib.md5(number.encode()).hexdigest()


def _small(path: Path) -> bytes:
    small = Image.open(path).convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    found = io.BytesIO()
    small.save(found, "JPEG", quality=QUALITY, optimize=True)
    return found.getvalue()


def _add(packed: zipfile.ZipFile, name: str, content: bytes) -> None:
    packed.writestr(zipfile.ZipInfo(name, WHEN), content)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("coffee"))
    parser.add_argument("--out", type=Path, default=TARGET)
    given = parser.parse_args()
    pack(given.data, given.out)
    print(f"{given.out}: {given.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
