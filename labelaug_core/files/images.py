"""One image file: which kinds are read, how each becomes 8-bit RGB, and a check of many before training."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, features

from labelaug_core.data import DataError, listed, printable
from labelaug_core.files.cache import progress

with suppress(ImportError):  # the plugin for HEIC comes with the extra `joining`
    import pillow_heif

    pillow_heif.register_heif_opener()

LARGEST = 300_000_000  # pixels of an image: phones take 200 million; a file of a few kB can ask for far more
NARROWEST = 100  # an image may be at most so many times as long as wide
Image.MAX_IMAGE_PIXELS = LARGEST  # Pillow's own limit also holds inside its readers (frames, tiles)
Image.init()

# Kinds that hold a picture and that Pillow decodes itself. EPS is left out: reading it runs another program.
FORMATS = "AVIF BMP DIB GIF HEIF ICNS ICO JPEG JPEG2000 JXL PCX PNG PPM PSD QOI SGI TGA TIFF WEBP".split()
PARTS = {"AVIF": "avif", "WEBP": "webp", "JPEG2000": "jpg_2000"}  # Pillow may have been built without these
FORMATS = [f for f in FORMATS if f in Image.OPEN and (f not in PARTS or features.check(PARTS[f]))]
IMAGE_SUFFIXES = {s for s, f in Image.registered_extensions().items() if f in FORMATS} | {".mpo"}

# Suffixes of images that are not read here, and what to do about them.
PLUGINS = {
    "pip install pillow-heif, which the extra `joining` has, and run again": ".heic .heif .heics .hif",
    "install Pillow 11.3 or newer and run again": ".avif .avifs .webp .jp2",
    "convert them to PNG": ".jxl .svg .eps .ai .dcm .fits .exr .hdr .wmf .emf",
    "convert these camera files to JPEG or TIFF": ".dng .cr2 .cr3 .nef .arw .raf .orf .rw2 .pef .srw",
}
UNREAD_SUFFIXES = {s: what for what, suffixes in PLUGINS.items() for s in suffixes.split() if s not in IMAGE_SUFFIXES}


def open_image(path: str | Path, side: int = 0) -> Image.Image:
    """The whole image as 8-bit RGB, turned the way its EXIF note says (see as_rgb).

    side: a JPEG is decoded at 1/2, 1/4 or 1/8 of its size while both its sides stay at least so many pixels long.
    Raises DataError naming a file that is truncated, no image, or larger or narrower than any photograph (it would ask
    for all memory).
    """
    try:
        return decode(path, side)
    except Exception as error:  # Pillow's readers raise many kinds
        raise DataError(f"{printable(path)}: {unreadable(error)}; replace or delete it") from None


def decode(path: str | Path, side: int = 0) -> Image.Image:
    """open_image without its error; also of a small JPEG every byte is read."""
    with Image.open(path, formats=FORMATS) as image:
        if image.width * image.height > LARGEST:
            raise ValueError(f"more than {LARGEST} pixels")
        if max(image.size) > NARROWEST * min(image.size):
            raise ValueError(f"more than {NARROWEST} times as long as wide")
        if side:
            image.draft(None, (side, side))
        return as_rgb(ImageOps.exif_transpose(image))


def unreadable(error: Exception) -> str:
    """Why an image file cannot be read, as one clause."""
    what = getattr(error, "strerror", None) or str(error) or type(error).__name__
    if isinstance(error, Image.UnidentifiedImageError):
        what = "it is not an image of a kind that is read here"
    return f"cannot be read as an image ({what})"


def as_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB of an image of any mode.

    More than 8 bits a pixel (16-bit grey, float): scaled so that the image's own darkest pixel is 0 and its brightest
    255, because a file does not say how many of its bits are used (12 of 16 is common). Transparent: put on white, as a
    page shows it; what lies under transparent pixels is often black, and dark objects would vanish. Raises ValueError
    for NaN or infinite pixels.
    """
    if image.mode == "F" or image.mode.startswith("I"):
        pixels = np.asarray(image, dtype=np.float32)
        low, high = float(pixels.min()), float(pixels.max())
        if not np.isfinite([low, high]).all():
            raise ValueError("it has NaN or infinite pixels; write a number for each")
        pixels = (pixels - low) * (255 / (high - low) if high > low else 0)
        return Image.fromarray(np.rint(pixels).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def check_images(paths: Iterable[str | Path]) -> None:
    """Read every image once, before anything is trained on them. Raises one DataError that names all broken files.

    A file that was read before and has not changed since is not read again.
    """
    paths, broken = [Path(path) for path in paths], []
    for path in progress(paths, "checking images"):
        try:
            stat = path.stat()
            what = fault(path, stat.st_mtime_ns, stat.st_size)
        except OSError as error:
            what = unreadable(error)
        if what:
            broken.append(f"{printable(path)}: {what}")
    if broken:
        count = "one image" if len(broken) == 1 else f"{len(broken)} images"
        raise DataError(f"{count} of {len(paths)}: replace or delete: {listed(broken, '; ')}")


@lru_cache(maxsize=1_000_000)
def fault(path: Path, changed: int, size: int) -> str:
    """What is wrong with an image file of this size that was last changed then; '' if nothing is."""
    try:
        decode(path, side=1)
        return ""
    except Exception as error:  # Pillow's readers raise many kinds
        return unreadable(error)


class ImageFiles:
    """Images read when asked: an index array -> uint8 [n, S, S, 3] (shorter side to S, centre crop, RGB).

    Every image is first brought to few pixels, if asked, so that images of several sources have one form and one
    sharpness: `squash` to squash x squash, its aspect ratio given up; `shrink` to shrink x shrink, cut from its centre.
    See open_image for what is read. Raises DataError naming the file where one is truncated or no image.
    """

    def __init__(self, paths: list[Path], size: int, squash: int | None = None, shrink: int | None = None):
        self.paths, self.size, self.squash, self.shrink = np.asarray(paths, dtype=object), size, squash, shrink
        self.key = f"rgb8-{size}-centre" + f"-squash{squash}" * bool(squash) + f"-shrink{shrink}" * bool(shrink)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index) -> np.ndarray:
        return np.stack([self.read(path) for path in np.atleast_1d(self.paths[index])])

    def read(self, path: Path) -> np.ndarray:
        """One image file as uint8 [S, S, 3]. Raises DataError naming a file that cannot be read."""
        image = open_image(path, self.squash or self.shrink or self.size)
        if self.squash:
            image = image.resize((self.squash, self.squash), Image.Resampling.BICUBIC)
        if self.shrink:
            image = Image.fromarray(centre_square(image, self.shrink))
        return centre_square(image, self.size)


def centre_square(image: Image.Image, size: int) -> np.ndarray:
    """Shorter side to `size` (bicubic), centre crop: uint8 [size, size, 3]."""
    scale = size / min(image.size)
    w, h = (max(size, round(side * scale)) for side in image.size)
    left, top = (w - size) // 2, (h - size) // 2
    return np.asarray(image.resize((w, h), Image.Resampling.BICUBIC).crop((left, top, left + size, top + size)))
