"""Images and arrays on disk as inputs, prepared alike when fitting and when explaining."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from xlens.contracts.numbers import is_count, is_number
from xlens.errors import DataError, OptionError, StorageError
from xlens.files.limits import MOST_BYTES, Allowance, check_archive
from xlens.files.plain import said

__all__ = [
    "PREPROCESSING",
    "Preprocessing",
    "class_folders",
    "find_images",
    "is_array",
    "listed",
    "read_array",
    "read_images",
    "readable",
]

_IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm"}
_ARRAYS = {".npz", ".npy", ".pt"}
_INPUTS, _LABELS = ("x", "X", "images", "inputs", "x_train", "arr_0"), ("y", "Y", "labels", "y_train", "arr_1")
#: The name of the fact that is saved with a lens.
PREPROCESSING = "preprocessing"
#: A photo with a preview or a depth map behind it, as telephones make them: the first is the photo.
_PHOTOS = {"MPO"}
_CHANNELS = 3
#: What an archive begins with.
_ZIP = b"PK"


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
        found = [path for path in folder.iterdir() if path.suffix.lower() in _IMAGES and path.is_file()]
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
                raise DataError("images: no image in this folder", given=path, allowed=", ".join(sorted(_IMAGES)))
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
    inputs = torch.from_numpy(np.stack(images)).float().div(255)
    return how.normalise(inputs.unsqueeze(1) if inputs.dim() == 3 else inputs.permute(0, 3, 1, 2))


def is_array(path: Path) -> bool:
    """Whether this file holds inputs as numbers."""
    return path.suffix.lower() in _ARRAYS


def read_array(path: Path, max_bytes: int = MOST_BYTES) -> tuple[Any, Any]:
    """Return inputs and labels (or None) from an ``.npz``, ``.npy`` or ``.pt`` file; nothing in it is executed.

    Args:
        path: the file. Of an ``.npz`` only inputs and labels are read.
        max_bytes: what they may become when they are unpacked, unless the file is larger than that itself.

    Raises:
        DataError: missing, damaged, too large, holding objects instead of numbers, or without inputs.
    """
    with readable(path):
        if not path.is_file():
            raise DataError("data: no such file", given=path, do="check the path")
        allowance = Allowance(path, max_bytes, DataError)
    try:
        content = _READERS[path.suffix.lower()](path, allowance)
    except DataError:
        raise
    except Exception as fault:  # noqa: BLE001 - damaged files fail in many ways, refused ones too
        raise DataError(
            f"data: {path.name!r} cannot be read as numbers",
            given=said(fault),
            allowed="arrays or tensors; files with Python objects in them are refused",
            do="np.savez(file, x=inputs), or torch.save(tensor, file)",
        ) from None
    return _split(path, content)


def _read_pt(path: Path, allowance: Allowance) -> Any:
    check_archive(path, allowance)
    content = torch.load(path, map_location="cpu", weights_only=True)
    # A tensor may repeat a few stored numbers as often as it says.
    spread = Allowance(path, allowance.most, DataError)
    for tensor in _tensors(content):
        spread.take(tensor.numel() * tensor.element_size(), "a tensor")
    return content


def _read_npy(path: Path, allowance: Allowance) -> Any:
    with path.open("rb") as file:
        packed = file.read(len(_ZIP)) == _ZIP
    if packed:
        # NumPy goes by the content and not by the name, and so does the limit.
        return _read_npz(path, allowance)
    with path.open("rb") as file:
        _take_claimed(file, path.name, allowance)
    return np.load(path)  # NumPy refuses objects unless told otherwise; nothing is packed here


def _read_npz(path: Path, allowance: Allowance) -> Any:
    """Return inputs and labels alone: another entry may be anything, and of any size."""
    with zipfile.ZipFile(path) as archive:
        names = {name.removesuffix(".npy"): name for name in archive.namelist()}
        found: dict[str, Any] = dict.fromkeys(names)
        for wanted in (_INPUTS, _LABELS):
            key = next((key for key in wanted if key in names), None)
            if key is not None:
                found[key] = _entry(archive, names[key], allowance)
    return found


def _entry(archive: zipfile.ZipFile, name: str, allowance: Allowance) -> np.ndarray:
    size = archive.getinfo(name).file_size
    allowance.take(size, f"the entry {name!r}")
    with archive.open(name) as stream:
        _take_claimed(stream, name, Allowance(Path(str(archive.filename)), allowance.most, DataError))
    with archive.open(name) as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)


def _take_claimed(stream: IO[bytes], name: str, allowance: Allowance) -> None:
    """Count what an array's header says: memory is made for it before there is a look at what follows."""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    allowance.take(math.prod(shape) * dtype.itemsize, f"the array {name!r}")


def _tensors(content: Any) -> Iterator[Tensor]:
    """Yield the tensors in what a ``.pt`` may hold as inputs and labels."""
    parts = content.values() if isinstance(content, Mapping) else content
    if isinstance(content, Tensor):
        yield content
    elif isinstance(content, Mapping | tuple | list):
        yield from (part for part in parts if isinstance(part, Tensor))


_READERS = {".pt": _read_pt, ".npy": _read_npy, ".npz": _read_npz}


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
    if 0 in inputs.shape or not inputs.dtype.itemsize:
        raise DataError(
            f"data: {path.name!r} holds inputs without values",
            given=f"{inputs.dtype} of shape {tuple(inputs.shape)}",
            allowed="(n, *S) with at least one value per input",
            do="check how the file was written",
        )
    return inputs, labels


def _read(path: Path, how: Preprocessing, max_bytes: int) -> np.ndarray:
    try:
        with _pixels_counted(), Image.open(path) as opened:
            width, height = opened.size
            Allowance(path, max_bytes, DataError).take(width * height * _CHANNELS, f"{width}x{height} pixels")
            _refuse_unreadable(path, opened)
            image: Image.Image = ImageOps.exif_transpose(opened)
            mode = "L" if how.mode == "grey" else "RGB"
            image = image if image.mode == mode else image.convert(mode)
            if how.size is not None and image.size != (how.size[1], how.size[0]):
                image = image.resize((how.size[1], how.size[0]), Image.Resampling.BILINEAR)
            return np.asarray(image)
    except DataError:
        raise
    except Exception as fault:  # noqa: BLE001 - damaged images fail in many ways
        raise DataError(
            "images: cannot be read", given=f"{path}: {said(fault)}", do="remove or repair it"
        ) from None


def _refuse_unreadable(path: Path, image: Image.Image) -> None:
    """Refuse what would lose something without a word: all frames but the first, or bits."""
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format not in _PHOTOS:
        raise DataError(
            "images: several images in one file, of which one alone would be read",
            given=f"{path}: {frames} frames",
            do="save each that is meant as a file of its own, or pass the inputs as .npz, .npy or .pt",
        )
    if image.mode.startswith(("I", "F")):
        raise DataError(
            "images: more than 8 bits per channel, which would be cut off",
            given=f"{path}: mode {image.mode}",
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


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Context in which a path is looked at.

    Raises:
        DataError: it cannot be, as where rights are missing or a link leads in a circle.
    """
    try:
        yield
    except OSError as fault:
        raise DataError("data: cannot be read", given=fault, do="check the path and its rights") from None


def _is_hidden(path: Path) -> bool:
    return path.name.startswith((".", "__"))
