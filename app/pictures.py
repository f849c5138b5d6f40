"""Open untrusted images safely: size limits before decoding, orientation applied, first frame, metadata dropped."""

import base64
import io
import threading
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TILELENGTH, TILEWIDTH

from app.errors import BadInput

MOST_BYTES = 30 * 2**20
MOST_PIXELS = 50_000_000
LONGEST = 1536  # pixels of the longer side; beyond it no model sees more
DECODED_AT_ONCE = 2  # a picture of MOST_PIXELS takes 200 MB and more while it is decoded
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
_decoding = threading.BoundedSemaphore(DECODED_AT_ONCE)


class NotAPicture(BadInput):
    zh = "{name} 不是能打开的图片。请使用 JPEG、PNG、WebP、GIF、BMP 或 TIFF 格式。"
    en = "{name} is no picture that can be opened. Use JPEG, PNG, WebP, GIF, BMP or TIFF."


class VectorPicture(NotAPicture):
    zh = "{name} 是 SVG 矢量图，里面可能有脚本，不能使用。请先存成 PNG。"
    en = "{name} is an SVG drawing, which may contain scripts, so it is not accepted. Save it as PNG first."


class BrokenPicture(BadInput):
    zh = "图片 {name} 不完整或已损坏，无法打开。请换一个文件。"
    en = "The picture {name} is incomplete or damaged and cannot be opened. Use another file."


class PictureTooLarge(BadInput):
    zh = "图片 {name} 太大：最多 {pixels} 万像素、{mib} MB。请先缩小。"
    en = "The picture {name} is too large: at most {megapixels} megapixels and {mib} MB. Scale it down first."

    def __init__(self, name: str) -> None:
        most = {"pixels": MOST_PIXELS // 10_000, "megapixels": MOST_PIXELS // 10**6, "mib": MOST_BYTES // 2**20}
        super().__init__(name=name, **most)


def open_picture(source: Path | bytes, longest: int = LONGEST, name: str = "") -> Image.Image:
    """The picture in RGB, at most `longest` pixels a side. `name` is what an error calls it.

    Raises NotAPicture, VectorPicture, BrokenPicture or PictureTooLarge.
    """
    name = name[:80] or (source.name[:80] if isinstance(source, Path) else "1")
    data = _read(source, name)
    try:
        picture = Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PictureTooLarge(name) from error
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise (VectorPicture if _is_svg(data) else NotAPicture)(name=name) from error
    if max(picture.width * picture.height, _tile_pixels(picture)) > MOST_PIXELS:
        raise PictureTooLarge(name)
    try:
        with _decoding:
            picture.draft("RGB", (longest, longest))  # a large JPEG is then decoded at a fraction of its size
            return _plain(picture, longest)
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, Image.DecompressionBombError) as error:
        raise BrokenPicture(name=name) from error


def as_jpeg(picture: Image.Image, longest: int = LONGEST, quality: int = 88) -> bytes:
    """The picture as a JPEG file of at most `longest` pixels a side."""
    scaled = picture.copy()
    scaled.thumbnail((longest, longest))
    written = io.BytesIO()
    scaled.save(written, "JPEG", quality=quality)
    return written.getvalue()


def data_url(jpeg: bytes) -> str:
    """A JPEG file as an address that holds it."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def _read(source: Path | bytes, name: str) -> bytes:
    if isinstance(source, bytes):
        data = source
    else:
        try:
            with source.open("rb") as file:
                data = file.read(MOST_BYTES + 1)
        except OSError as error:
            raise BrokenPicture(name=name) from error
    if len(data) > MOST_BYTES:
        raise PictureTooLarge(name)
    return data


def _tile_pixels(picture: Image.Image) -> int:
    """Of a tile of a TIFF, which is decoded whole however small the picture is."""
    tags = getattr(picture, "tag_v2", {})
    sides = [side for name in (TILEWIDTH, TILELENGTH) if isinstance(side := tags.get(name), int)]
    return sides[0] * sides[1] if len(sides) == 2 else 0


def _plain(picture: Image.Image, longest: int) -> Image.Image:
    """Pixels only: a fresh picture, so that no location or other metadata comes along; what is clear becomes white."""
    picture.seek(0)
    upright = ImageOps.exif_transpose(picture)
    seen = upright.convert("RGBA") if upright.has_transparency_data else upright.convert("RGB")
    seen.thumbnail((longest, longest))
    plain = Image.new("RGB", seen.size, "white")
    plain.paste(seen, mask=seen if seen.mode == "RGBA" else None)
    return plain


def _is_svg(data: bytes) -> bool:
    return b"<svg" in data[:4096].lower()
