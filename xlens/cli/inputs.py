"""Images on disk as inputs, prepared alike when fitting and when explaining."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from xlens.contracts.numbers import is_count, is_number
from xlens.data.slices import AXES, SLICES, is_slice, read_slice
from xlens.errors import DataError, OptionError, StorageError
from xlens.files.limits import MOST_BYTES, Allowance, readable
from xlens.files.plain import said

__all__ = [
    "PREPROCESSING",
    "Preprocessing",
    "class_folders",
    "find_images",
    "listed",
    "read_images",
]

#: What the names of files end with that are images.
_FILES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm", *SLICES)
#: The name of the fact that is saved with a lens.
PREPROCESSING = "preprocessing"
#: A photo with a preview or a depth map behind it, as telephones make them: the first is the photo.
_PHOTOS = {"MPO"}
_CHANNELS = 3
#: Shares of red, green and blue in a grey, as Pillow has them.
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How an image file becomes an input: resized, scaled to [0, 1], then ``(value - mean) / std``.

    Args:
        size: height and width; None keeps the images' own, which then have to be alike.
        mode: ``"grey"`` or ``"rgb"``.
        mean, std: per channel, or one for all.
        window, slice, axis: of DICOM and NIfTI files, as for :func:`xlens.data.read_slice`.
    """

    size: tuple[int, int] | None = None
    mode: str = "rgb"
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    window: tuple[float, ...] | None = None
    slice: int | str | None = None
    axis: str = "axial"

    def __post_init__(self) -> None:
        channels = 1 if self.mode == "grey" else 3
        faults = []
        if self.mode not in ("grey", "rgb"):
            faults.append(f"mode must be 'grey' or 'rgb', got {self.mode!r}")
        if self.size is not None and not (
            isinstance(self.size, tuple)
            and len(self.size) == 2
            and all(is_count(side) and side <= 8192 for side in self.size)
        ):
            faults.append(f"size must be one or two whole numbers of pixels, got {self.size!r}")
        for name in ("mean", "std"):
            values = getattr(self, name)
            if not isinstance(values, tuple) or len(values) not in (1, channels) or not all(map(is_number, values)):
                faults.append(f"{name} must be 1 or {channels} numbers for {self.mode} images, got {values!r}")
        if not faults and any(value <= 0 for value in self.std):
            faults.append(f"std must be above 0, got {self.std!r}")
        if self.window is not None and not (
            isinstance(self.window, tuple)
            and len(self.window) == 2
            and all(map(is_number, self.window))
            and self.window[1] > 0
        ):
            faults.append(f"window must be a centre and a width above 0, got {self.window!r}")
        if self.slice not in (None, "middle") and not (is_count(self.slice) or self.slice == 0):
            faults.append(f"slice must be 'middle' or a number from 0, got {self.slice!r}")
        if self.axis not in AXES:
            faults.append(f"axis must be one of {', '.join(AXES)}, got {self.axis!r}")
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

    def facts(self) -> dict[str, Any]:
        """Return it as plain JSON, to be saved with a lens."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in vars(self).items()}

    @staticmethod
    def of(provenance: Mapping[str, Any]) -> Preprocessing | None:
        """Return it from what is saved with a lens, or None where inputs were numbers already.

        Raises:
            StorageError: it is nothing that :meth:`facts` returned.
        """
        facts = provenance.get(PREPROCESSING)
        if facts is None:
            return None
        try:
            values: dict[str, Any] = {
                key: tuple(value) if isinstance(value, list) else value for key, value in facts.items()
            }
            return Preprocessing(**values)
        except (ValueError, TypeError, AttributeError, OverflowError) as fault:
            raise StorageError(
                "explain: how images become this lens's inputs is damaged",
                given=said(fault),
                do="say --size, --mode, --mean and --std again, and fit anew",
            ) from None


def class_folders(folder: Path) -> list[Path]:
    """Return the folders inside `folder`, sorted by name, without hidden ones.

    Raises:
        DataError: the folder cannot be read.
    """
    with readable(folder):
        return [part for part in sorted(folder.iterdir()) if part.is_dir() and not _is_hidden(part)]


def listed(folder: Path) -> list[Path]:
    """Return the image files that lie in `folder` itself, sorted, without hidden ones, as ``._photo.png`` of a Mac.

    Raises:
        DataError: the folder cannot be read.
    """
    with readable(folder):
        found = [path for path in folder.iterdir() if path.name.lower().endswith(_FILES) and path.is_file()]
    return sorted(path for path in found if not _is_hidden(path))


def find_images(paths: Sequence[Path]) -> list[Path]:
    """Return image files, in place of a folder all that lie in it or in its folders.

    Raises:
        DataError: a path does not exist or is no image, or there are none.
    """
    found: list[Path] = []
    for path in paths:
        with readable(path):
            folder, file = path.is_dir(), path.is_file()
        if folder:
            inside = listed(path) + [image for part in class_folders(path) for image in listed(part)]
            if not inside:
                raise DataError("images: no image in this folder", given=path, allowed=", ".join(_FILES))
            found += inside
        elif not file:
            raise DataError("images: no such file or folder", given=path, do="check the path")
        else:
            found.append(path)
    return found


def read_images(paths: Sequence[Path], how: Preprocessing, max_bytes: int = MOST_BYTES) -> Tensor:
    """Read image files as inputs ``(n, C, H, W)``, turned upright as their EXIF says.

    Args:
        paths: the files, of one image each.
        how: how they become inputs.
        max_bytes: what one of them may become in memory, in bytes of its pixels in three channels.

    Raises:
        DataError: a file is no image, or holds several, or is too large; or sizes differ and none was asked for.
    """
    images = [_read(path, how, max_bytes) for path in paths]
    sizes = {image.shape[:2] for image in images}
    if len(sizes) > 1:
        raise DataError(
            "images: they differ in size",
            given=", ".join(f"{w}x{h}" for h, w in sorted(sizes)[:3]),
            do="say --size PIXELS, the size that the classifier was trained on",
        )
    if any(image.dtype != np.uint8 for image in images):
        # Slices have more than 8 bits, and are shades in [0, 1] already.
        images = [np.divide(image, 255, dtype=np.float32) if image.dtype == np.uint8 else image for image in images]
        inputs = torch.from_numpy(np.stack(images))
    else:
        inputs = torch.from_numpy(np.stack(images)).float().div(255)
    return how.normalise(inputs.unsqueeze(1) if inputs.dim() == 3 else inputs.permute(0, 3, 1, 2))


def _read(path: Path, how: Preprocessing, max_bytes: int) -> np.ndarray:
    """Return an image of 8 bits as bytes, ``(H, W)`` or ``(H, W, 3)``; a slice as shades in [0, 1]."""
    size = None if how.size is None else (how.size[1], how.size[0])
    if is_slice(path):
        shades = read_slice(path, window=how.window, slice=how.slice, axis=how.axis, max_bytes=max_bytes)
        grey = shades if shades.ndim == 2 else shades @ _LUMA
        planes = [grey] if how.mode == "grey" else [shades[..., i] if shades.ndim == 3 else grey for i in range(3)]
        made = [np.asarray(_resized(Image.fromarray(np.ascontiguousarray(plane)), size)) for plane in planes]
        return made[0] if how.mode == "grey" else np.stack(made, -1)
    try:
        with _pixels_counted(), Image.open(path) as opened:
            width, height = opened.size
            Allowance(path, max_bytes, DataError).take(width * height * _CHANNELS, f"{width}x{height} pixels")
            _refuse_unreadable(path, opened)
            image: Image.Image = ImageOps.exif_transpose(opened)
            mode = "L" if how.mode == "grey" else "RGB"
            image = image if image.mode == mode else image.convert(mode)
            return np.asarray(_resized(image, size))
    except DataError:
        raise
    except Exception as fault:  # noqa: BLE001 - damaged images fail in many ways
        raise DataError(
            "images: cannot be read", given=f"{path}: {said(fault)}", do="remove or repair it"
        ) from None


def _resized(image: Image.Image, size: tuple[int, int] | None) -> Image.Image:
    """Return an image of this width and height."""
    return image if size is None or image.size == size else image.resize(size, Image.Resampling.BILINEAR)


def _refuse_unreadable(path: Path, image: Image.Image) -> None:
    """Refuse what would lose something without a word: all frames but the first, or bits."""
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format not in _PHOTOS:
        raise DataError(
            "images: several images in one file, of which one alone would be read",
            given=f"{path}: {frames} frames",
            do="save each that is meant as a file of its own, or pass the inputs as .npz, .npy or .pt",
        )
    # In colours Pillow itself cuts them off while it reads: only what it will read them by says so.
    deep = next((said for tile in getattr(image, "tile", []) if (said := _deeper(*tile))), None)
    if deep is not None or image.mode.startswith(("I", "F")):
        raise DataError(
            "images: more than 8 bits per channel, which would be cut off",
            given=f"{path}: mode {deep or image.mode}",
            do="convert it to 8 bits, or pass the inputs as .npz, .npy or .pt",
        )


@contextmanager
def _pixels_counted() -> Iterator[None]:
    """Within this context pixels are counted here, and not by Pillow, whose limit warns at first."""
    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _deeper(decoder: str, _box: Any, _offset: Any, arguments: Any = ()) -> str | None:
    """Return by what a tile of more than 8 bits is read, None of others."""
    several = arguments if isinstance(arguments, tuple | list) else (arguments,)
    for one in several:
        # Of PPM the largest value is said in its place.
        if (isinstance(one, str) and ";16" in one) or (
            decoder.startswith("ppm") and isinstance(one, int) and one > 255
        ):
            return str(one)
    return None


def _is_hidden(path: Path) -> bool:
    return path.name.startswith((".", "__"))
