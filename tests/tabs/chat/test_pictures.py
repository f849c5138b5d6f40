"""Pictures of a chat's session: how many wait for the next question, and how many are kept at all."""

from pathlib import Path

from PIL import Image

from tabs.chat.pictures import MOST_AT_ONCE, MOST_KEPT, Album


def test_a_few_wait_for_the_question_and_the_newest_are_kept(tmp_path: Path) -> None:
    albums = [Album()]
    for number in range(MOST_KEPT + 2):
        file = tmp_path / f"{number}.png"
        Image.new("RGB", (600, 4), (5 * number, 0, 0)).save(file)
        albums.append(albums[-1].with_picture(file))
    first, album = albums[1], albums[-1]
    assert len(album.full) == MOST_KEPT and len(album.waiting) == MOST_AT_ONCE
    assert album.waiting[0] == first.waiting[0] not in album.full, "the oldest was let go"
    thumbnail, newest = [*album.full.items()][-1]
    assert album.images([thumbnail]) == (newest,) and len(album.images(first.waiting)[0]) > 0
    assert first.with_picture(tmp_path / "0.png").waiting == first.waiting, "one that waits is not taken twice"
