"""Images on their way from the blob store to models."""

from collections import OrderedDict
from collections.abc import Iterable, Mapping

from ostler.domain.model import Message, UserMessage
from ostler.ports import BlobStore

KEPT_BYTES_MAX = 64 * 1024 * 1024


class Images:
    """Loads the images of sessions. Those that were shown last are kept, for each request shows all of them again."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._kept: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._size = 0

    async def of(self, tenant: str, messages: Iterable[Message]) -> Mapping[str, bytes]:
        """The bytes of every image in these messages, by their hash. Raises `NotFound`, `StoreError`."""
        shown = [image.blob for message in messages if isinstance(message, UserMessage) for image in message.images]
        return {digest: await self._body(tenant, digest) for digest in shown}

    async def _body(self, tenant: str, digest: str) -> bytes:
        key = tenant, digest
        body = self._kept.pop(key, None)
        if body is None:
            body = await self._blobs.get(tenant, digest)
            self._kept.pop(key, None)  # another session may have loaded it meanwhile
            self._size = sum(map(len, self._kept.values())) + len(body)
        self._kept[key] = body
        while self._size > KEPT_BYTES_MAX and self._kept:
            self._size -= len(self._kept.popitem(last=False)[1])
        return body
