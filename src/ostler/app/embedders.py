"""The embedder that the settings name, made when it is needed."""

from typing import Any

from ostler.app.memory_settings import HASHING, NONE
from ostler.app.plugins import EMBEDDERS, part
from ostler.app.providers import OPENAI_URL, told
from ostler.app.settings import Settings
from ostler.ports.memory import Embedder


def embedder_of(settings: Settings) -> Embedder | None:
    """What turns texts into vectors; None if the settings name nothing. Raises `ConfigurationError`."""
    table = settings.memory
    if table.embedder == NONE:
        return None
    made: Embedder
    if table.embedder == HASHING:
        lengths = {} if table.dimensions is None else {"dimensions": table.dimensions}
        made = part(EMBEDDERS[HASHING])(**lengths)
        return made
    provider, _, name = table.embedder.partition(":")
    model = part(EMBEDDERS["model"], extra="http")(
        name, table.dimensions, document_prefix=table.document_prefix, query_prefix=table.query_prefix
    )
    speaks = "ollama" if provider == "ollama" else "openai"
    made = part(EMBEDDERS[speaks], extra="http")(model, **_access(provider, settings))
    return made


def _access(provider: str, settings: Settings) -> dict[str, Any]:
    """The address and the key, which is for one server and told to no other. One without its key says so when asked:
    that is no reason to keep anybody from memories, which are found by their words.
    """
    keys = settings.keys
    match provider:
        case "ollama":
            return {"base_url": told(keys.ollama_host, "OLLAMA_HOST")}
        case "openai":
            url = told(keys.openai_base_url, "OPENAI_BASE_URL") if keys.openai_base_url else OPENAI_URL
            return {"base_url": url, "api_key": keys.openai_api_key, "key_name": "OPENAI_API_KEY"}
        case _:
            target = settings.providers[provider]
            return {
                "base_url": target.table.base_url,
                "api_key": target.key,
                "key_name": target.table.key_env or "",
            }
