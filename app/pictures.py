"""Pictures from strangers: opened within limits, turned upright, freed of what a camera wrote into them, scaled."""

import warnings
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from PIL import Image, ImageOps, UnidentifiedImageError

from app.errors import BadInput

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
MOST_PIXELS = 50_000_000
LONGEST = 1600  # pixels of the longer side, after scaling
QUALITY = 86


class PictureTooLarge(BadInput):
    zh = "图片 {name} 有 {megapixels} 百万像素，最多 {limit}。请先缩小。"
    en = "The picture {name} has {megapixels} megapixels; at most {limit} are taken. Make it smaller first."


class NotAPicture(BadInput):
    zh = "{name} 不是能用的图片，或已损坏。请用 JPEG、PNG、WebP、GIF 或 BMP。"
    en = "{name} is damaged or no picture that can be used. Use JPEG, PNG, WebP, GIF or BMP."


def open_picture(source: Path | bytes, name: str, longest: int = LONGEST) -> Image.Image:
    """The picture upright, in RGB, at most `longest` pixels a side, and nothing but its pixels; of an animation the
    first frame. The size is judged by the header, before any pixel is unpacked. Raises BadInput."""
    stream: Path | BinaryIO = BytesIO(source) if isinstance(source, bytes) else source
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(stream, formats=FORMATS) as opened:
                if opened.width * opened.height > MOST_PIXELS:
                    raise _too_large(name, opened.width * opened.height)
                return _plain(opened, longest)
    except Image.DecompressionBombError:
        raise _too_large(name, 2 * (Image.MAX_IMAGE_PIXELS or 0)) from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError) as error:
        raise NotAPicture(name=name[:80]) from error


def as_jpeg(picture: Image.Image) -> bytes:
    made = BytesIO()
    picture.save(made, "JPEG", quality=QUALITY, optimize=True)
    return made.getvalue()


def _plain(opened: Image.Image, longest: int) -> Image.Image:
    opened.seek(0)
    if opened.format == "JPEG":
        opened.draft("RGB", (longest * 2, longest * 2))  # unpacks at a lower size, where that is enough
    upright = ImageOps.exif_transpose(opened)
    upright.thumbnail((longest, longest))
    if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
        upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright.convert("RGBA"))
    pixels = upright.convert("RGB")
    bare = Image.new("RGB", pixels.size)
    bare.paste(pixels)
    return bare


def _too_large(name: str, pixels: int) -> PictureTooLarge:
    return PictureTooLarge(name=name[:80], megapixels=round(pixels / 1e6), limit=MOST_PIXELS // 1_000_000)
