"""Text-to-image retrieval: captions and pictures embedded by one CLIP model (sentence-transformers)."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.errors import ModelError
from app.models.catalog import hub
from app.models.catalog.known_models import without_path
from app.openmp_threads import all_cores

Vectors = NDArray[np.float32]
MIB = 900  # clip-ViT-B-32 and its multilingual reader of texts, in float32


class NoPictureModel(ModelError):
    zh = (
        "配图要用的图文模型 {name} 取不到。请联网，或用 --picture-model 指定本机的 CLIP 文件夹"
        "（只有一个模型时把 --caption-model 设为空）。"
    )
    en = (
        "The model that matches pictures, {name}, cannot be had. Let the server reach the hub, or name a folder with a"
        " CLIP model by --picture-model (with --caption-model empty where one model reads both)."
    )


class PictureEmbedder:
    """Vectors of length 1, so that a dot product is the cosine. `caption_model` empty: one model reads both."""

    def __init__(self, picture_model: str, caption_model: str, device: str = "cpu") -> None:
        self._pictures = _load(picture_model, device)
        self._captions = _load(caption_model, device) if caption_model else self._pictures

    def pictures(self, pictures: Sequence[Image.Image]) -> Vectors:
        return _encode(self._pictures, list(pictures))

    def captions(self, captions: Sequence[str]) -> Vectors:
        return _encode(self._captions, list(captions))


LeasePictureEmbedder = Callable[[], AbstractContextManager[PictureEmbedder]]


def held_by(
    hold: Callable[..., AbstractContextManager[PictureEmbedder]], picture_model: str, caption_model: str, device: str
) -> LeasePictureEmbedder:
    """The embedder on the registry's memory account; `hold` is the registry's."""

    @contextmanager
    def lease() -> Iterator[PictureEmbedder]:
        def load(_report: object) -> PictureEmbedder:
            return PictureEmbedder(picture_model, caption_model, device)

        with hold("embedder", picture_model, MIB, load, device) as embedder:
            yield embedder

    return lease


def rank(captions: Vectors, pictures: Vectors) -> list[list[int]]:
    """For each caption the pictures, best first."""
    return [[int(place) for place in row] for row in np.argsort(-(captions @ pictures.T), axis=1, kind="stable")]


def assign(ranking: Sequence[Sequence[int]], captions: Vectors, pictures: Vectors) -> list[int | None]:
    """One picture a caption, none twice: the closest pair first. None where the pictures run out."""
    scores = captions @ pictures.T
    chosen: list[int | None] = [None] * len(ranking)
    free = set(range(pictures.shape[0]))
    open_places = set(range(len(ranking)))
    while free and open_places:
        place, picture = max(
            ((place, picture) for place in open_places for picture in free), key=lambda pair: float(scores[pair])
        )
        chosen[place] = picture
        open_places.remove(place)
        free.remove(picture)
    return chosen


def _load(name: str, device: str) -> Any:
    from sentence_transformers import SentenceTransformer

    with suppress(Exception):  # not here: told below, if the hub does not have it either
        return SentenceTransformer(name, device=device, local_files_only=True)
    try:
        hub.require(name if "/" in name else f"sentence-transformers/{name}")  # it would try again for half a minute
        return SentenceTransformer(name, device=device)
    except Exception as error:  # the hub, the network and broken files each raise their own kind
        raise NoPictureModel(name=without_path(name)) from error


def _encode(model: Any, inputs: list[Any]) -> Vectors:
    with all_cores():
        encoded = model.encode(inputs, normalize_embeddings=True, show_progress_bar=False, batch_size=16)
    return np.asarray(encoded, dtype=np.float32)
