"""Images that people show to agents: from a file to the wire, and wherever their session goes."""

import asyncio
import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ostler import Agent, ContextSettings, Limits, Runtime, Session, tool
from ostler.app.housekeeping import Housekeeping
from ostler.app.images import IMAGE_BYTES_MAX, IMAGES_MAX
from ostler.app.providers import Dialect, ProviderTable
from ostler.app.settings import ProjectFile, resolve
from ostler.app.transfer import export, import_
from ostler.app.verify import verify
from ostler.domain.model import (
    IMAGE_TOKENS_MAX,
    Image,
    ModelRef,
    Reply,
    UserMessage,
    image_tokens,
    image_type,
)
from ostler.domain.scheduling import WorkerSettings
from ostler.domain.session.events import AgentStarted, InputReceived, ModelRequested
from ostler.kernel.errors import DefinitionInvalid, NotFound
from ostler.runtime import images as kept
from ostler.runtime.images import Images
from ostler.runtime.replay import replay
from ostler.testing import Scripted, calls
from ostler.testing.wire import WireServer
from tests.runtime.talking import Talker
from tests.runtime.watching import events, only, reached
from tests.servers import fresh_schema

PNG = b"\x89PNG\r\n\x1a\n" + b"\x01" * 40
JPEG = b"\xff\xd8\xff\xe0" + b"\x02" * 40
GIF = b"GIF89a" + b"\x03" * 40
WEBP = b"RIFF\x2c\0\0\0WEBPVP8 " + b"\x04" * 32


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


@pytest.fixture(params=["memory:", "sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "postgres":
        with fresh_schema() as url:
            yield url
    else:
        yield f"sqlite:///{tmp_path / 'store.db'}" if request.param == "sqlite" else request.param


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (PNG, "image/png"),
        (JPEG, "image/jpeg"),
        (GIF, "image/gif"),
        (b"GIF87a", "image/gif"),
        (WEBP, "image/webp"),
        (b"RIFF\x2c\0\0\0WAVEfmt ", None),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", None),
        (b"%PDF-1.7", None),
        (b"", None),
    ],
)
def test_an_image_is_known_by_its_first_bytes(body: bytes, kind: str | None) -> None:
    assert image_type(body) == kind


async def test_what_is_shown_reaches_the_model_with_the_words_it_came_with(url: str, tmp_path: Path) -> None:
    model = Scripted(calls(("unknown", {}), text="I look."), "A cat, then a dog.", name="viewer")
    file = tmp_path / "cat.png"
    file.write_bytes(PNG)
    async with Runtime.open(url) as runtime:
        session = await runtime.start(Agent("viewer", model=model), "What is this?", images=[file, JPEG])
        assert (await session.result()).is_success
        started = await only(session, AgentStarted)
        replay([record async for record in session.records(follow=False)])
    shown = (Image(digest(PNG), len(PNG), "image/png"), Image(digest(JPEG), len(JPEG), "image/jpeg"))
    assert started.images == shown
    for request in model.requests:
        assert request.messages[0] == UserMessage("What is this?", shown)
        assert request.images == {digest(PNG): PNG, digest(JPEG): JPEG}


async def test_an_image_that_is_sent_to_a_running_session_is_seen_with_the_next_request() -> None:
    talker = Talker("viewer")
    async with Runtime.open("memory:") as runtime:
        session = await runtime.start(Agent("viewer", model=talker), "Wait for a picture.")
        await reached(session, ModelRequested)
        await session.send("Here it is.", images=[WEBP])
        received = await reached(session, InputReceived)
        for word in ("I wait.", None, "A picture.", None):
            talker.words.put_nowait(word)
        assert (await session.result()).text == "A picture."
        state = await session.state()
        replay([record async for record in session.records(follow=False)])
    assert received.images == (Image(digest(WEBP), len(WEBP), "image/webp"),)
    assert UserMessage("Here it is.", received.images) in list(state.transcript)


async def test_an_image_that_was_left_out_of_the_context_is_not_sent_any_more() -> None:
    running: list[Session] = []

    @tool(effect="read")
    async def look(part: int) -> str:
        """Look at a part."""
        if part == 1:
            await running[0].send("Here it is.", images=[PNG])
        return "The quick brown fox looked at it. " * 30

    model = Scripted(*[calls(("look", {"part": part})) for part in range(1, 13)], "Nothing.", name="viewer")
    agent = Agent("viewer", model=model, tools=[look]).with_settings(ContextSettings(("trim",), window_tokens=3_000))
    async with Runtime.open("memory:", worker=False) as runtime:
        running.append(await runtime.start(agent, "Look at all parts.", images=[GIF]))
        await runtime.work(WorkerSettings())
        assert (await running[0].result(timeout_s=30)).is_success
    assert model.requests[1].images == {digest(GIF): GIF, digest(PNG): PNG}
    assert model.requests[-1].images == {digest(GIF): GIF}


@pytest.mark.parametrize("dialect", ["anthropic", "openai-chat", "openai-responses", "google"])
async def test_every_dialect_says_them_on_the_wire(dialect: Dialect, tmp_path: Path) -> None:
    async with WireServer() as server:
        server.answers(Reply('{"animal":"cat"}'))
        project = ProjectFile(providers={"here": ProviderTable(f"{server.url}/v1", dialect=dialect)})
        settings = resolve({"HOME": str(tmp_path)}, tmp_path, store="memory:", project=project)
        async with Runtime.open(settings) as runtime:
            returns = {"type": "object", "properties": {"animal": {"type": "string"}}, "required": ["animal"]}
            agent = Agent("viewer", model="here:m", returns=returns)
            session = await runtime.start(agent, "What is this?", images=[PNG])
            assert (await session.result(timeout_s=30)).value == {"animal": "cat"}
        wire = msgspec.json.encode(server.asked[0].body).decode()
    assert base64.b64encode(PNG).decode() in wire
    assert "image/png" in wire
    assert '"animal":{"type":"string"}' in wire


@pytest.mark.parametrize(
    ("images", "problem"),
    [
        ([b"no image"], r"images\[0\]: is none"),
        ([PNG, b"%PDF-1.7"], r"images\[1\]: is none"),
        ([PNG + b"\0" * IMAGE_BYTES_MAX], r"images\[0\]: is larger than 20 MiB"),
        ([Path("nowhere.png")], r"images\[0\]: cannot be read: No such file"),
        ([Path("/")], r"images\[0\]: cannot be read"),
        (["cat.png"], r"images\[0\]: expected bytes or the Path of a file, got str"),
        ([PNG] * (IMAGES_MAX + 1), "at most 20"),
        (PNG, "expected a list, got bytes"),
    ],
)
async def test_what_is_no_image_keeps_a_session_from_starting(images: Any, problem: str) -> None:
    async with Runtime.open("memory:", worker=False) as runtime:
        with pytest.raises(DefinitionInvalid, match=problem):
            await runtime.start(Agent("viewer", model=Scripted("x")), "What is this?", images=images)
        assert await runtime.sessions() == []
        session = await runtime.start(Agent("viewer", model=Scripted("x")), "What is this?")
        with pytest.raises(DefinitionInvalid, match=problem):
            await session.send("This.", images=images)
        assert not [event for event in await events(session) if isinstance(event, InputReceived)]


async def test_an_image_as_large_as_may_be_is_kept() -> None:
    async with Runtime.open("memory:", worker=False) as runtime:
        body = PNG.ljust(IMAGE_BYTES_MAX, b"\0")
        session = await runtime.start(Agent("viewer", model=Scripted("x")), "What is this?", images=[body])
        assert (await session.state()).images[0].size == IMAGE_BYTES_MAX


async def shown(runtime: Runtime, *images: bytes) -> Session:
    """A session that has ended, and was shown these."""
    agent = Agent("viewer", model=Scripted(calls(("unknown", {})), "A cat."))
    session = await runtime.start(agent, "What is this?", images=images)
    await session.result()
    await released(runtime, session)
    return session


async def released(runtime: Runtime, session: Session) -> None:
    """Return when no worker holds the session any more."""
    while (await runtime.parts.store.streams("default", prefix=session.id))[0].worker is not None:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def test_a_start_that_is_refused_keeps_no_image() -> None:
    async with Runtime.open("memory:", worker=False) as runtime:
        unpriced = ModelRef("live", "anthropic", "claude-of-no-price", price=None)
        agent = Agent("viewer", model=unpriced, limits=Limits(cost_microusd=1))
        with pytest.raises(DefinitionInvalid, match="cost_microusd"):
            await runtime.start(agent, "What is this?", images=[PNG])
        with pytest.raises(NotFound):
            await runtime.parts.blobs.get("default", digest(PNG))


async def test_a_fork_shows_its_images_even_when_the_session_that_they_came_with_is_gone(url: str) -> None:
    async with Runtime.open(url) as runtime:
        session = await shown(runtime, PNG)
        fork = await session.fork()
        assert (await fork.result()).is_success
        await released(runtime, fork)
        parts = runtime.parts
        keeping = Housekeeping(parts.journal, parts.blobs, parts.views, parts.clock, tenant="default", by="me")
        infos = [info async for info in keeping.ended_before(2**62)]
        await keeping.remove(
            [info for info in infos if info.stream == session.stream], because="old", archive=None, written_by="x"
        )
        assert await parts.blobs.get("default", digest(PNG)) == PNG
        assert not (await verify(parts.store, parts.blobs, fork.stream)).problems
        infos = [info async for info in keeping.ended_before(2**62)]
        await keeping.erase(infos[0], because="asked to")
        with pytest.raises(NotFound):
            await parts.blobs.get("default", digest(PNG))


async def test_images_go_where_a_session_is_exported_to_and_are_proved_there() -> None:
    async with Runtime.open("memory:") as here, Runtime.open("memory:", worker=False) as there:
        session = await shown(here, PNG, GIF, PNG)
        talker = Talker()
        waiting = await here.start(Agent("waiter", model=talker), "Wait.")
        await waiting.send("This.", images=[JPEG])
        for word in ("A dog.", None, "A dog.", None):
            talker.words.put_nowait(word)
        await waiting.result()
        streams = [session.stream, waiting.stream]
        lines = [line async for line in export(here.parts.journal, here.parts.blobs, streams, written_by="a test")]
        imported = await import_(there.parts.journal, there.parts.blobs, lines, now_us=0)
        assert [one.blobs for one in imported] == [2, 1]
        for body in (PNG, GIF, JPEG):
            assert await there.parts.blobs.get("default", digest(body)) == body
        await there.parts.blobs.drop([session.stream])
        problems = (await verify(there.parts.store, there.parts.blobs, session.stream)).problems
        assert len(problems) == 3
        assert all("is missing" in problem for problem in problems)


async def test_an_image_that_is_lost_fails_the_call_and_says_which() -> None:
    async with Runtime.open("memory:", worker=False) as runtime:
        model = Scripted("A cat.", name="viewer")
        session = await runtime.start(Agent("viewer", model=model), "What is this?", images=[PNG])
        await runtime.parts.blobs.drop([session.stream])
        runtime.parts.models.add(model.ref, model)
        async with asyncio.timeout(30):
            await runtime.work(WorkerSettings())
            result = await session.result()
    assert result.status == "failed"
    assert digest(PNG) in result.text


# What is loaded is kept for a while


class Counting:
    """A blob store's `get`, which counts."""

    def __init__(self, **bodies: bytes) -> None:
        self.bodies = bodies
        self.asked: list[tuple[str, str]] = []

    async def get(self, tenant: str, digest: str) -> bytes:
        self.asked.append((tenant, digest))
        await asyncio.sleep(0)
        return self.bodies[digest]


def showing(*names: str) -> list[UserMessage]:
    """Messages with these images."""
    return [UserMessage("Look.", (Image(name, 1, "image/png"),)) for name in names]


async def test_an_image_is_loaded_once_for_all_requests_and_for_each_tenant_on_its_own() -> None:
    store = Counting(a=b"A", b=b"B")
    images = Images(store)  # type: ignore[arg-type]
    for _ in range(3):
        assert await images.of("acme", showing("a", "b")) == {"a": b"A", "b": b"B"}
    assert store.asked == [("acme", "a"), ("acme", "b")]
    await images.of("globex", showing("a"))
    assert store.asked[2:] == [("globex", "a")]


async def test_no_more_is_kept_than_a_bound_and_what_was_shown_last_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "KEPT_BYTES_MAX", 20)
    store = Counting(a=b"A" * 10, b=b"B" * 10, c=b"C" * 10, d=b"D" * 30)
    images = Images(store)  # type: ignore[arg-type]
    for name in "abacab":
        await images.of("t", showing(name))
    assert [name for _, name in store.asked] == ["a", "b", "c", "b"]
    assert await images.of("t", showing("d")) == {"d": b"D" * 30}
    await images.of("t", showing("d"))
    assert [name for _, name in store.asked][4:] == ["d", "d"]


async def test_sessions_that_load_the_same_image_at_once_keep_it_once() -> None:
    store = Counting(a=b"A")
    images = Images(store)  # type: ignore[arg-type]
    await asyncio.gather(*[images.of("t", showing("a")) for _ in range(5)])
    await images.of("t", showing("a"))
    assert len(store.asked) == 5
    assert images._size == 1


def test_an_image_counts_as_some_tokens_but_never_as_more_than_models_make_of_one() -> None:
    small, large = Image("", 500, "image/png"), Image("", IMAGE_BYTES_MAX, "image/png")
    assert 0 < image_tokens(small) < image_tokens(large) == IMAGE_TOKENS_MAX
