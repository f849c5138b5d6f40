"""Pictures as people send them: turned, located, moving, cut, huge, or none at all."""

import io
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from app.errors import BadInput
from app.pictures import BrokenPicture, NotAPicture, PictureTooLarge, VectorPicture, as_jpeg, data_url, open_picture

RED, BLUE = (220, 30, 30), (30, 30, 220)
ORIENTATION, GPS, LATITUDE = 0x0112, 0x8825, 2


def halves(size: tuple[int, int] = (60, 40)) -> Image.Image:
    """Red on the left, blue on the right."""
    picture = Image.new("RGB", size, RED)
    picture.paste(BLUE, (size[0] // 2, 0, *size))
    return picture


def file_of(picture: Image.Image, kind: str, **options: object) -> bytes:
    written = io.BytesIO()
    picture.save(written, kind, **options)
    return written.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    written = [struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(written)


def tiled(side: int, tile: int) -> bytes:
    """A small TIFF whose only tile claims a size."""
    tags = (
        (256, side),
        (257, side),
        (258, 8),
        (259, 8),
        (262, 1),
        (277, 1),
        (322, tile),
        (323, tile),
        (324, 200),
        (325, 90),
    )
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    return head.ljust(200, b"\0") + zlib.compress(bytes(10**5)).ljust(200, b"\0")


def framed(screen: int, frame: int) -> bytes:
    """A GIF whose frame is larger than its screen."""
    head = b"GIF89a" + struct.pack("<HHBBB", screen, screen, 0x80, 0, 0) + bytes(3) + b"\xff\xff\xff"
    return head + b"\x2c" + struct.pack("<HHHHB", 0, 0, frame, frame, 0) + b"\x02\x02\x44\x01\x00\x3b"


def near(pixel: object, colour: tuple[int, int, int]) -> bool:
    assert isinstance(pixel, tuple)
    return all(abs(a - b) < 40 for a, b in zip(pixel, colour, strict=True))


def test_a_turned_photo_stands_upright_and_its_place_is_gone() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # turn it a quarter clockwise
    exif.get_ifd(GPS)[LATITUDE] = (31.0, 14.0, 3.0)
    photo = file_of(halves(), "JPEG", exif=exif)
    assert Image.open(io.BytesIO(photo)).getexif().get_ifd(GPS)
    picture = open_picture(photo)
    assert picture.size == (40, 60)
    assert near(picture.getpixel((20, 5)), RED) and near(picture.getpixel((20, 55)), BLUE)
    sent = Image.open(io.BytesIO(as_jpeg(picture)))
    assert not sent.getexif() and b"Exif" not in as_jpeg(picture)


def test_a_large_one_is_scaled_and_keeps_its_shape() -> None:
    assert open_picture(file_of(halves((3000, 2000)), "JPEG"), longest=600).size == (600, 400)
    assert open_picture(file_of(halves(), "PNG"), longest=600).size == (60, 40), "a small one is not blown up"


def test_a_moving_one_shows_its_first_frame() -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in (RED, BLUE)]
    moving = file_of(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert near(open_picture(moving).getpixel((9, 9)), RED)


def test_what_is_clear_becomes_white() -> None:
    assert open_picture(file_of(Image.new("RGBA", (9, 9), (0, 0, 0, 0)), "PNG")).getpixel((4, 4)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("data", "refusal", "sentence"),
    [
        (png_header(10_000, 10_000), PictureTooLarge, "at most 50 megapixels"),
        (png_header(100_000, 100_000), PictureTooLarge, "at most 50 megapixels"),
        (tiled(16, 20_000), PictureTooLarge, "at most 50 megapixels"),
        (framed(1, 60_000), PictureTooLarge, "at most 50 megapixels"),
        (file_of(halves((400, 400)), "JPEG")[:1500], BrokenPicture, "incomplete or damaged"),
        (b"<?xml version='1.0'?><svg><script>alert(1)</script></svg>", VectorPicture, "SVG"),
        (b"hello", NotAPicture, "no picture"),
        (b"", NotAPicture, "no picture"),
        (b"\0" * (31 * 2**20), PictureTooLarge, "30 MB"),
    ],
)
def test_what_cannot_be_used_is_told_in_one_sentence(data: bytes, refusal: type[BadInput], sentence: str) -> None:
    with pytest.raises(refusal, match=sentence) as told:
        open_picture(data, name="it.png")
    assert "it.png" in told.value.text("zh")


def test_a_file_is_named_in_its_refusal(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(NotAPicture, match=r"notes\.txt"):
        open_picture(tmp_path / "notes.txt")
    with pytest.raises(BrokenPicture):
        open_picture(tmp_path / "absent.png")


def test_an_address_holds_the_picture() -> None:
    assert data_url(as_jpeg(halves())).startswith("data:image/jpeg;base64,/9j/")
