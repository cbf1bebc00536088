"""Images that people show to agents: read, recognised, and kept in the blob store."""

from collections.abc import Sequence
from pathlib import Path

from ostler.domain.model import Image, image_type
from ostler.kernel.errors import DefinitionInvalid
from ostler.kernel.event import StreamId
from ostler.ports import BlobStore

IMAGE_BYTES_MAX = 20 * 1024 * 1024
IMAGES_MAX = 20
"""How many images one message may have."""


def read_images(images: Sequence[Path | bytes], source: str) -> list[tuple[bytes, str]]:
    """The bytes of these images (a path is that of a file) and what they are, as `image/png`.

    Raises `DefinitionInvalid` for `source` with every problem.
    """
    if isinstance(images, bytes | str | Path):
        raise DefinitionInvalid(source, [("images", f"expected a list, got {type(images).__name__}")])
    if len(images) > IMAGES_MAX:
        raise DefinitionInvalid(source, [("images", f"are {len(images)}: at most {IMAGES_MAX} go with one message")])
    read, problems = list[tuple[bytes, str]](), []
    for number, image in enumerate(images):
        body = _body(image)
        kind = image_type(body) if isinstance(body, bytes) else None
        name = f" ({image})" if isinstance(image, Path) else ""
        if not isinstance(body, bytes):
            problems.append((f"images[{number}]", body + name))
        elif len(body) > IMAGE_BYTES_MAX:
            problems.append((f"images[{number}]", f"is larger than {IMAGE_BYTES_MAX // 2**20} MiB{name}"))
        elif kind is None:
            problems.append((f"images[{number}]", f"is none: PNG, JPEG, GIF and WebP are known here{name}"))
        else:
            read.append((body, kind))
    if problems:
        raise DefinitionInvalid(source, problems)
    return read


def _body(image: object) -> bytes | str:
    """The bytes of an image, of a file no more than one too many, or why there are none."""
    if isinstance(image, bytes):
        return image
    if not isinstance(image, Path):
        return f"expected bytes or the Path of a file, got {type(image).__name__}"
    try:
        with image.open("rb") as file:
            return file.read(IMAGE_BYTES_MAX + 1)
    except OSError as error:
        return f"cannot be read: {error.strerror}"


async def keep_images(blobs: BlobStore, stream: StreamId, read: Sequence[tuple[bytes, str]]) -> tuple[Image, ...]:
    """Keep images for a session; they are durable when this returns."""
    return tuple([Image(await blobs.put(stream, body), len(body), kind) for body, kind in read])
