"""A model that answers from a recording, so that a test needs no network, no key and no money."""

import os
from collections.abc import Callable
from pathlib import Path

from ostler.adapters.providers.recorded import Recorded, Recording
from ostler.app.models import Models
from ostler.app.settings import resolve
from ostler.app.strategies import ModelObject
from ostler.domain.model import ModelRef, ModelRequest, Reply
from ostler.ports import ModelProvider


class RecordedModel:
    """A `ModelProvider` that knows which model it stands for, as agents want it. `ref.kind` says who answers."""

    def __init__(self, ref: ModelRef, provider: ModelProvider) -> None:
        self.ref = ref
        self._provider = provider

    async def complete(self, request: ModelRequest, on_text: Callable[[str], None]) -> Reply:
        return await self._provider.complete(request, on_text)

    async def close(self) -> None:
        await self._provider.close()


def recorded(path: str | Path, live: str | ModelObject | None = None) -> RecordedModel:
    """The model whose replies are in the file.

    If there is no such file yet, `live` answers (`openai:NAME`, with the keys of the environment, or a model object),
    and its replies are recorded in it. Raises `ConfigurationError` if there is neither.
    """
    file = Path(path)
    if live is None or file.exists():
        provider = Recorded(file)
        who, _, name = provider.models[0].partition(":")
        return RecordedModel(ModelRef("recorded", who, name), provider)
    if not isinstance(live, str):
        return RecordedModel(live.ref, Recording(live, file))
    models = Models(resolve(os.environ, Path.cwd()))
    ref = models.named(live)
    return RecordedModel(ref, Recording(models.provider(ref), file))
