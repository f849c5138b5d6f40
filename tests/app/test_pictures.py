"""Pictures as strangers send them."""

import struct
import zlib
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from app.pictures import NotAPicture, PictureTooLarge, as_jpeg, open_picture

ORIENTATION, GPS = 0x0112, 0x8825
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'


def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    made = BytesIO()
    picture.save(made, kind, **options)  # type: ignore[arg-type]
    return made.getvalue()


def header_of_png(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds no pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def test_a_camera_s_rotation_is_respected_and_its_notes_removed() -> None:
    half = Image.new("RGB", (40, 20), "white")
    half.paste("red", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    exif.get_ifd(GPS)[1] = "N"
    exif.get_ifd(GPS)[2] = (31.0, 12.0, 3.0)
    data = encoded(half, "JPEG", exif=exif, quality=95, comment=b"secret")
    assert b"Exif" in data
    opened = open_picture(data, "photo.jpg")
    assert opened.size == (20, 40)
    assert opened.getpixel((10, 5))[1] < 60  # type: ignore[index]
    kept = as_jpeg(opened)
    assert b"Exif" not in kept
    assert b"secret" not in kept
    assert not Image.open(BytesIO(kept)).getexif()


@pytest.mark.parametrize("size", [(10_000, 10_000), (60_000, 60_000)])
def test_a_hundred_megapixels_are_refused_by_the_header(size: tuple[int, int]) -> None:
    with pytest.raises(PictureTooLarge, match="megapixels"):
        open_picture(header_of_png(*size), "huge.png")


def test_what_is_damaged_or_no_picture_is_refused(tmp_path: Path) -> None:
    whole = encoded(Image.effect_noise((200, 200), 50), "JPEG")
    for data in (whole[: len(whole) // 2], SVG, b"", b"GIF89a", whole[:20]):
        with pytest.raises(NotAPicture, match=r"odd\.jpg"):
            open_picture(data, "odd.jpg")
    with pytest.raises(NotAPicture):
        open_picture(tmp_path / "absent.png", "absent.png")


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (30, 30), colour) for colour in ("red", "blue", "green")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=100)
    red, _, blue = open_picture(data, "moving.gif").getpixel((5, 5))  # type: ignore[misc]
    assert red > 200
    assert blue < 50


def test_large_ones_are_scaled_and_glass_becomes_white() -> None:
    clear = Image.new("RGBA", (3000, 1000), (0, 0, 0, 0))
    opened = open_picture(encoded(clear, "PNG"), "clear.png", longest=300)
    assert (opened.size, opened.mode) == ((300, 100), "RGB")
    assert opened.getpixel((5, 5)) == (255, 255, 255)


def test_every_mode_becomes_plain_colour() -> None:
    for mode in ("1", "L", "P", "LA", "CMYK", "I;16"):
        kind = "JPEG" if mode == "CMYK" else "PNG"
        assert open_picture(encoded(Image.new(mode, (8, 8)), kind), mode).mode == "RGB"
