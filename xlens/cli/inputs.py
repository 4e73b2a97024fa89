"""Images and arrays on disk as inputs, prepared alike when fitting and when explaining."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from xlens.errors import DataError, OptionError, StorageError

__all__ = ["Preprocessing", "class_folders", "find_images", "is_array", "listed", "read_array", "read_images"]

_IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm"}
_ARRAYS = {".npz", ".npy", ".pt"}
_INPUTS, _LABELS = ("x", "X", "images", "inputs", "x_train", "arr_0"), ("y", "Y", "labels", "y_train", "arr_1")
_FILE = "inputs.json"


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How an image file becomes an input: resized, scaled to [0, 1], then ``(value - mean) / std``.

    Args:
        size: height and width; None keeps the images' own, which then have to be alike.
        mode: ``"grey"`` or ``"rgb"``.
        mean, std: per channel, or one for all.
    """

    size: tuple[int, int] | None = None
    mode: str = "rgb"
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        channels = 1 if self.mode == "grey" else 3
        faults = []
        if self.mode not in ("grey", "rgb"):
            faults.append(f"mode must be 'grey' or 'rgb', got {self.mode!r}")
        if self.size is not None and not (
            len(self.size) == 2 and all(isinstance(side, int) and 1 <= side <= 8192 for side in self.size)
        ):
            faults.append(f"size must be one or two whole numbers of pixels, got {self.size!r}")
        for name in ("mean", "std"):
            values = getattr(self, name)
            if len(values) not in (1, channels) or not all(np.isfinite(value) for value in values):
                faults.append(f"{name} must be 1 or {channels} numbers for {self.mode} images, got {values!r}")
        if any(value <= 0 for value in self.std):
            faults.append(f"std must be above 0, got {self.std!r}")
        if faults:
            raise OptionError("inputs: " + "; ".join(faults))

    def __str__(self) -> str:
        """Return what is done, in words."""
        size = "" if self.size is None else f"{self.size[0]}x{self.size[1]} pixels, "
        mean, std = (" ".join(f"{value:.4g}" for value in values) for values in (self.mean, self.std))
        return f"{size}{self.mode}, scaled to [0, 1], mean {mean}, std {std}"

    def normalise(self, pixels: Tensor) -> Tensor:
        """Return inputs from pixels ``(n, C, H, W)`` in [0, 1]."""
        mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (self.mean, self.std))
        return (pixels - mean) / std

    def save(self, folder: Path) -> None:
        """Write it beside a lens, as plain JSON."""
        content = json.dumps(dataclasses.asdict(self), indent=2)
        (folder / _FILE).write_text(content, encoding="utf-8")

    @staticmethod
    def forget(folder: Path) -> None:
        """Remove what an earlier fit wrote there."""
        (folder / _FILE).unlink(missing_ok=True)

    @staticmethod
    def load(folder: Path) -> Preprocessing | None:
        """Read it, or return None where a lens has none.

        Raises:
            StorageError: it was damaged.
        """
        path = folder / _FILE
        if not path.is_file():
            return None
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
            values: dict[str, Any] = {
                key: tuple(value) if isinstance(value, list) else value for key, value in facts.items()
            }
            return Preprocessing(**values)
        except (ValueError, TypeError, AttributeError) as fault:
            raise StorageError(
                f"explain: {path.name!r} is damaged", given=fault, do="say --size, --mode, --mean and --std again"
            ) from None


def class_folders(folder: Path) -> list[Path]:
    """Return the folders inside `folder`, sorted by name, without hidden ones."""
    return [part for part in sorted(folder.iterdir()) if part.is_dir() and not part.name.startswith((".", "__"))]


def listed(folder: Path) -> list[Path]:
    """Return the image files that lie in `folder` itself, sorted."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in _IMAGES and path.is_file())


def find_images(paths: Sequence[Path]) -> list[Path]:
    """Return image files, in place of a folder all that lie in it or in its folders.

    Raises:
        DataError: a path does not exist or is no image, or there are none.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = listed(path) + [image for part in class_folders(path) for image in listed(part)]
            if not inside:
                raise DataError("images: no image in this folder", given=path, allowed=", ".join(sorted(_IMAGES)))
            found += inside
        elif not path.is_file():
            raise DataError("images: no such file or folder", given=path, do="check the path")
        else:
            found.append(path)
    return found


def read_images(paths: Sequence[Path], how: Preprocessing) -> Tensor:
    """Read image files as inputs ``(n, C, H, W)``.

    Raises:
        DataError: a file is no image, or sizes differ and none was asked for.
    """
    images = [_read(path, how) for path in paths]
    sizes = {image.shape[:2] for image in images}
    if len(sizes) > 1:
        raise DataError(
            "images: they differ in size",
            given=", ".join(f"{w}x{h}" for h, w in sorted(sizes)[:3]),
            do="say --size PIXELS, the size that the classifier was trained on",
        )
    inputs = torch.from_numpy(np.stack(images)).float().div(255)
    return how.normalise(inputs.unsqueeze(1) if inputs.dim() == 3 else inputs.permute(0, 3, 1, 2))


def is_array(path: Path) -> bool:
    """Whether this file holds inputs as numbers."""
    return path.suffix.lower() in _ARRAYS


def read_array(path: Path) -> tuple[Any, Any]:
    """Return inputs and labels (or None) from an ``.npz``, ``.npy`` or ``.pt`` file; nothing in it is executed.

    Raises:
        DataError: missing, damaged, holding objects instead of numbers, or without inputs.
    """
    if not path.is_file():
        raise DataError("data: no such file", given=path, do="check the path")
    try:
        if path.suffix.lower() == ".pt":
            content = torch.load(path, map_location="cpu", weights_only=True)
        else:
            content = np.load(path)  # NumPy refuses objects unless told otherwise
            content = dict(content) if path.suffix.lower() == ".npz" else content
    except Exception as fault:  # noqa: BLE001 - damaged files fail in many ways, refused ones too
        raise DataError(
            f"data: {path.name!r} cannot be read as numbers",
            given=str(fault).splitlines()[0] if str(fault) else type(fault).__name__,
            allowed="arrays or tensors; files with Python objects in them are refused",
            do="np.savez(file, x=inputs), or torch.save(tensor, file)",
        ) from None
    return _split(path, content)


def _split(path: Path, content: Any) -> tuple[Any, Any]:
    if isinstance(content, Mapping):
        inputs = next((content[key] for key in _INPUTS if key in content), None)
        labels = next((content[key] for key in _LABELS if key in content), None)
    elif isinstance(content, tuple | list) and len(content) in (1, 2):
        inputs, labels = content[0], content[1] if len(content) == 2 else None
    else:
        inputs, labels = content, None
    if not isinstance(inputs, Tensor | np.ndarray) or inputs.ndim < 2:
        keys = f"keys {', '.join(map(str, content))}" if isinstance(content, Mapping) else type(content).__name__
        raise DataError(
            f"data: {path.name!r} holds no inputs", given=keys, allowed=f"(n, *S) under one of {', '.join(_INPUTS)}"
        )
    return inputs, labels


def _read(path: Path, how: Preprocessing) -> np.ndarray:
    try:
        with Image.open(path) as opened:
            if opened.mode.startswith(("I", "F")):
                raise DataError(
                    "images: more than 8 bits per channel, which would be cut off",
                    given=f"{path}: mode {opened.mode}",
                    do="convert it to 8 bits, or pass the inputs as .npz, .npy or .pt",
                )
            image = opened.convert("L" if how.mode == "grey" else "RGB")
            if how.size is not None and image.size != (how.size[1], how.size[0]):
                image = image.resize((how.size[1], how.size[0]), Image.Resampling.BILINEAR)
            return np.asarray(image)
    except DataError:
        raise
    except Exception as fault:  # noqa: BLE001 - damaged images fail in many ways
        raise DataError("images: cannot be read", given=f"{path}: {fault}", do="remove or repair it") from None
