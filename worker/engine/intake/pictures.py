"""Reads `.zip`: pictures as `split/class/file` or `class/file`."""

import io
import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO, NoReturn

import numpy as np
from PIL import Image

from service.contract.request import DatasetSpec
from worker.engine.intake.complaints import quoted, refuse, refuse_size
from worker.engine.intake.limits import IntakeLimits
from worker.engine.intake.npz import reading
from worker.engine.intake.raw import SPLIT_WORDS, SPLITS, AnyArray, Raw

_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "PPM")
_GRAY = {"1", "L", "I;16", "I;16L", "I;16B"}
_COLOUR = {"P", "PA", "LA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"}
_LAYOUT = "expected are class/file, or train/class/file with val and test beside it"
_BELOW_A_SPLIT = 3  # split, class, file
_BELOW_A_CLASS = 2


@dataclass(frozen=True)
class _Picture:
    member: zipfile.ZipInfo
    split: str
    label: str

    @property
    def name(self) -> str:
        return self.member.filename


def read_pictures(file: BinaryIO, spec: DatasetSpec, limits: IntakeLimits) -> Raw:
    """Read pictures of one size, as uint8, (rows, channels, height, width).

    Raises:
        Problem: see `worker.engine.intake.reader`.
    """
    with reading("the archive"):
        archive = zipfile.ZipFile(file)
    with archive:
        pictures = _find(archive, limits)
        classes = _class_names([picture.label for picture in pictures], spec)
        size = tuple(spec.image.size) if spec.image and spec.image.size else None
        shape = _common_shape(archive, pictures, size, limits)
        total = len(pictures) * int(np.prod(shape))
        if total > limits.total_bytes:
            refuse_size(
                "the pictures in memory",
                found=total,
                allowed=limits.total_bytes,
                unit="bytes",
            )
        raw = Raw(x={}, y={}, class_names=classes, layout="NCHW")
        for split in ("all", *SPLITS):
            chosen = [picture for picture in pictures if picture.split == split]
            if chosen:
                raw.x[split] = _decode_all(archive, chosen, shape)
                raw.y[split] = np.array(
                    [classes.index(picture.label) for picture in chosen], np.int64
                )
    if size is not None:
        raw.notes.append(f"Pictures were brought to {shape[1]} by {shape[2]} pixels.")
    return raw


def _find(archive: zipfile.ZipFile, limits: IntakeLimits) -> list[_Picture]:
    members = archive.infolist()
    if len(members) > limits.members:
        refuse_size(
            "the archive", found=len(members), allowed=limits.members, unit="files"
        )
    found = [
        (member, PurePosixPath(member.filename).parts)
        for member in members
        if not member.is_dir() and not _is_litter(member.filename)
    ]
    if not found:
        refuse(f"the archive holds no pictures; {_LAYOUT}")
    # Many tools put everything below one folder named after the archive.
    while len({parts[0] for _, parts in found}) == 1 and all(
        len(parts) > _BELOW_A_CLASS for _, parts in found
    ):
        if _is_split(found[0][1][0]):
            break
        found = [(member, parts[1:]) for member, parts in found]
    if all(len(parts) == _BELOW_A_CLASS and _is_split(parts[0]) for _, parts in found):
        first = found[0][0].filename
        refuse(f"{quoted(first, 200)} stands in no folder of a class; {_LAYOUT}")
    has_splits = all(
        len(parts) == _BELOW_A_SPLIT and _is_split(parts[0]) for _, parts in found
    )
    pictures = []
    for member, parts in sorted(found, key=lambda entry: entry[0].filename):
        if has_splits:
            split = SPLIT_WORDS[parts[0].lower()]
            pictures.append(_Picture(member, split, parts[1]))
        elif len(parts) == _BELOW_A_CLASS:
            pictures.append(_Picture(member, "all", parts[0]))
        else:
            refuse(f"{quoted(member.filename, 200)} stands astray; {_LAYOUT}")
    return pictures


def _is_split(name: str) -> bool:
    return name.lower() in SPLIT_WORDS


def _is_litter(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return (
        not parts
        or parts[0] == "__MACOSX"
        or parts[-1].startswith(".")
        or parts[-1].lower() in {"thumbs.db", "desktop.ini"}
    )


def _class_names(labels: Sequence[str], spec: DatasetSpec) -> tuple[str, ...]:
    found = set(labels)
    if spec.class_names is not None:
        unknown = sorted(found - set(spec.class_names))
        if unknown:
            refuse(
                f"the folder {quoted(unknown[0])} is none of class_names",
                at="/spec/class_names",
            )
        return tuple(spec.class_names)
    # Folders 0 to C-1 are labels already; by letters, 10 would come before 2.
    if found == {str(number) for number in range(len(found))}:
        return tuple(str(number) for number in range(len(found)))
    return tuple(sorted(found))


def _open(archive: zipfile.ZipFile, picture: _Picture) -> Image.Image:
    with reading(picture.name), archive.open(picture.member) as stream:
        content = stream.read(picture.member.file_size)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Image.open(io.BytesIO(content), formats=_FORMATS)
    # Edge to decoders that raise whatever the bytes lead them to.
    except Exception:  # noqa: BLE001 - decoders raise whatever the bytes lead to
        _broken(picture)


def _broken(picture: _Picture) -> NoReturn:
    refuse(
        f"{quoted(picture.name, 200)} cannot be read as a picture; expected are "
        f"{', '.join(_FORMATS)}"
    )


def _common_shape(
    archive: zipfile.ZipFile,
    pictures: Sequence[_Picture],
    size: tuple[int, ...] | None,
    limits: IntakeLimits,
) -> tuple[int, int, int]:
    """Find the size and the channels that all pictures share, by their headers."""
    channels = 1
    height, width = size or (0, 0)
    for picture in pictures:
        if picture.member.file_size > limits.picture_bytes:
            refuse_size(
                f"the picture {quoted(picture.name, 200)}",
                found=picture.member.file_size,
                allowed=limits.picture_bytes,
                unit="bytes",
            )
        with _open(archive, picture) as image:
            if image.width * image.height > limits.picture_pixels:
                refuse_size(
                    f"the picture {quoted(picture.name, 200)}",
                    found=image.width * image.height,
                    allowed=limits.picture_pixels,
                    unit="pixels",
                )
            if image.mode in _COLOUR:
                channels = 3
            elif image.mode not in _GRAY:
                refuse(
                    f"{quoted(picture.name, 200)} has pixels of type "
                    f"{quoted(image.mode)}; grey or colour of 8 bits is expected"
                )
            if not height:
                width, height = image.size
            if size is None and image.size != (width, height):
                refuse(
                    f"{quoted(picture.name, 200)} has {image.width} by {image.height} "
                    f"pixels, {quoted(pictures[0].name, 200)} has {width} by {height}; "
                    "give spec.image.size to bring all to one size",
                    at="/spec/image/size",
                )
    if height * width > limits.picture_pixels or min(height, width) < 1:
        refuse(
            f"pictures of {height} by {width} pixels cannot be made",
            at="/spec/image/size",
        )
    return channels, height, width


def _decode_all(
    archive: zipfile.ZipFile,
    pictures: Sequence[_Picture],
    shape: tuple[int, int, int],
) -> AnyArray:
    pixels = np.empty((len(pictures), *shape), np.uint8)
    for row, picture in enumerate(pictures):
        with _open(archive, picture) as image:
            try:
                pixels[row] = _decode(image, shape)
            except MemoryError:
                raise
            # Edge to decoders, as in `_open`.
            except Exception:  # noqa: BLE001 - as in `_open`
                _broken(picture)
    return pixels


def _decode(image: Image.Image, shape: tuple[int, int, int]) -> AnyArray:
    channels, height, width = shape
    if image.mode.startswith("I;16"):
        values = (np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)
        image = Image.fromarray(values)
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    values = np.asarray(image)
    return values[None] if channels == 1 else np.moveaxis(values, -1, 0)
