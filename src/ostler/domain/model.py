"""What a model is asked and what it replies, in no provider's dialect."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from ostler.domain.tool import ToolSpec

Kind = Literal["live", "recorded", "scripted", "strategy"]
"""Who really answers: a model over the network, a recording of one, a test script, or deterministic code."""

StopReason = Literal["end", "tool_calls", "length", "stop_sequence", "refusal", "other"]


class Price(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Micro-dollars per million tokens (so 3_000_000 is $3 per million)."""

    input_microusd: int
    output_microusd: int
    cache_read_microusd: int | None = None
    cache_write_microusd: int | None = None


class Usage(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Tokens as the provider reports them. `input_tokens` excludes what was read from or written to a cache."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens + self.cache_read_tokens + self.cache_write_tokens


class ModelRef(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which model answers, how it is reached, and how it is spoken to.

    `provider` names who answers (`anthropic`, `openai`, `ollama`, a server of the user's own) or code (`strategy`,
    `scripted`), `name` the model there. `dialect` is the wire format; empty, it is the one called like the provider.
    `tools="text"` is for models without native tool calling: they are spoken to in the Thought / Action grammar.
    `window_tokens` is how much a request and its reply may hold together; None is not known.
    """

    kind: Kind
    provider: str
    name: str
    tools: Literal["native", "text"] = "native"
    base_url: str | None = None
    price: Price | None = None
    dialect: str = ""
    window_tokens: int | None = None

    def __str__(self) -> str:
        return f"{self.provider}:{self.name} ({self.kind})"


Effort = Literal["none", "low", "medium", "high"]
"""How much a model is to think before it answers."""


class ModelSettings(msgspec.Struct, frozen=True, omit_defaults=True):
    """Sampling settings that reach the provider as they stand; None leaves the provider's default.

    `share_s` does not reach it: equal requests of a tenant get one reply, those under way at the same time and those
    up to so many seconds later; None shares nothing.
    """

    temperature: float | None = None
    max_tokens: int = 16_384
    stop: tuple[str, ...] = ()
    timeout_s: float = 300.0
    reasoning: Effort | None = None
    share_s: float | None = None


class AskedCall(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A tool call as the model asked for it. `arguments` is the JSON text that it wrote, not yet judged or parsed.

    `id` is ours (`3.1` is the first call of turn 3), unique in the session whatever the provider sent.
    """

    id: str
    name: str
    arguments: str


class Image(msgspec.Struct, frozen=True, gc=False):
    """A picture, kept in the blob store: its SHA-256 there, its bytes, and what they are (`image/png`)."""

    blob: str
    size: int
    media_type: str


IMAGE_TOKENS_MAX = 1_600


def image_type(body: bytes) -> str | None:
    """What kind of image this is by its first bytes, as `image/png`; None if it is none that models are shown."""
    if body.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if body.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if body.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    return "image/webp" if body[:4] == b"RIFF" and body[8:12] == b"WEBP" else None


def image_tokens(image: Image) -> int:
    """About how many tokens an image takes: models scale it down, so that no image takes more than a certain many."""
    return min(IMAGE_TOKENS_MAX, 85 + image.size // 100)


class Reasoning(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What a model thought before it answered. `raw` is the part as its API sent it, JSON that it wants back verbatim.

    It is given back to the same `dialect` and the same `model` only: to any other it means nothing.
    """

    dialect: str
    model: str
    raw: str
    text: str = ""


class UserMessage(msgspec.Struct, frozen=True, gc=False, tag="user", tag_field="role", omit_defaults=True):
    """What a person says: the goal first; in the text grammar, observations too."""

    text: str
    images: tuple[Image, ...] = ()


class AssistantMessage(msgspec.Struct, frozen=True, gc=False, tag="assistant", tag_field="role", omit_defaults=True):
    """What the model replied."""

    text: str
    calls: tuple[AskedCall, ...] = ()
    reasoning: tuple[Reasoning, ...] = ()


class ToolMessage(msgspec.Struct, frozen=True, gc=False, tag="tool", tag_field="role"):
    """The outcome of one asked call; `text` is a JSON observation (see `domain.tool.observation`)."""

    call: str
    name: str
    text: str
    ok: bool = True


Message = UserMessage | AssistantMessage | ToolMessage


class ModelRequest(msgspec.Struct, frozen=True, gc=False):
    """One question to a model. `messages` begin with the goal and are never copied on the way to the provider.

    `key` identifies this call in the log for as many attempts as it takes (`ses_…/3`). `images` are the bytes of the
    images in the messages, by their hash. With `returns` the answer is to be JSON that fits this JSON Schema. The last
    messages, as many as are `passing`, are texts of the user's side that no later request repeats.
    """

    model: ModelRef
    system: str
    messages: Sequence[Message]
    tools: tuple[ToolSpec, ...]
    settings: ModelSettings
    key: str
    images: Mapping[str, bytes] = {}
    returns: dict[str, Any] | None = None
    passing: int = 0


class Reply(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A whole reply; there is no such thing as half of one. `model` is the id that the provider says answered.

    `calls` carry the provider's own ids here; the session gives them its own. `fingerprint` names the configuration
    that the provider ran the model with, where it says so.
    """

    text: str
    calls: tuple[AskedCall, ...] = ()
    stop: StopReason = "end"
    usage: Usage = Usage()
    model: str = ""
    reasoning: tuple[Reasoning, ...] = ()
    fingerprint: str = ""


TOKENS_MAX = 1_000_000_000
NAME_CHARACTERS_MAX = 200


def within_reason(reply: Reply) -> Reply:
    """The reply with what its provider says beside it: counts that can be, and names of one line.

    A negative count would pay back what others have cost, and one without bound fits into no sum.
    """
    counts = msgspec.structs.astuple(reply.usage)
    model, fingerprint = _name(reply.model), _name(reply.fingerprint)
    if min(counts) >= 0 and max(counts) <= TOKENS_MAX and (model, fingerprint) == (reply.model, reply.fingerprint):
        return reply
    usage = Usage(*[min(max(0, count), TOKENS_MAX) for count in counts])
    return msgspec.structs.replace(reply, usage=usage, model=model, fingerprint=fingerprint)


def _name(said: str) -> str:
    if len(said) <= NAME_CHARACTERS_MAX and said.isprintable():
        return said
    return "".join([char for char in said if char.isprintable()])[:NAME_CHARACTERS_MAX]


def cost_microusd(usage: Usage, price: Price | None) -> int:
    """What `usage` costs in micro-dollars, rounded up; 0 where no price is known."""
    if price is None:
        return 0
    read = price.input_microusd if price.cache_read_microusd is None else price.cache_read_microusd
    write = price.input_microusd if price.cache_write_microusd is None else price.cache_write_microusd
    total = (
        usage.input_tokens * price.input_microusd
        + usage.output_tokens * price.output_microusd
        + usage.cache_read_tokens * read
        + usage.cache_write_tokens * write
    )
    return -(-total // 1_000_000)
