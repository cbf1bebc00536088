"""What `ostler.toml` may say of relays, and what is wrong with what it must not."""

from pathlib import Path

import pytest

from ostler.adapters.bus.kafka import KafkaBus
from ostler.adapters.bus.nats import NatsBus
from ostler.adapters.bus.redis import RedisBus
from ostler.adapters.bus.webhook import WebhookBus
from ostler.app.bootstrap import connect
from ostler.app.relays import find, make_bus
from ostler.app.settings import PROJECT_FILE, Settings, resolve
from ostler.kernel.errors import ConfigurationError, DefinitionInvalid, NotFound

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

ALL = """
[relays.stream]
to = "redis://anna:hunter2@cache.example:6379/0"
types = ["tool.*"]
tenants = ["acme"]
stream = "ostler:tools"
length_max = 100_000

[relays.jetstream]
to = "nats://one.example,two.example:4223"
subject = "agents"
secret_env = "NATS_TOKEN"
begin = "end"

[relays.topic]
to = "kafka://one.example,two.example:9093/agents"
begin = 17

[relays.hook]
to = "https://example.com/events?key=hunter2"
secret_env = "HOOK_SECRETS"
give_up_s = 60
"""
ENVIRON = {"HOOK_SECRETS": f"{SECRET} {SECRET}", "NATS_TOKEN": "hunter2", "HOME": "/home-of-anna"}


def settings(folder: Path, text: str, environ: dict[str, str] | None = None) -> Settings:
    (folder / PROJECT_FILE).write_text(text)
    return resolve(ENVIRON if environ is None else environ, folder, store="memory:")


async def test_every_kind_of_relay_gets_its_bus(tmp_path: Path) -> None:
    known = settings(tmp_path, ALL)
    parts = await connect(known)
    made = [make_bus(target, parts) for target in find(known)]
    assert [type(bus) for bus in made] == [RedisBus, NatsBus, KafkaBus, WebhookBus]
    for bus in made:
        await bus.close()
    await parts.close()


def test_no_secret_is_shown_of_a_relay(tmp_path: Path) -> None:
    known = settings(tmp_path, ALL)
    assert [target.shown for target in find(known)] == [
        "redis://cache.example:6379/0",
        "nats://one.example,two.example:4223",
        "kafka://one.example,two.example:9093/agents",
        "https://example.com/events",
    ]
    shown = repr(find(known)) + repr(known)
    assert "hunter2" not in shown
    assert SECRET not in shown


def test_relays_are_found_by_name_and_named_when_they_are_not(tmp_path: Path) -> None:
    known = settings(tmp_path, ALL)
    assert [target.name for target in find(known, ["hook", "topic", "hook"])] == ["hook", "topic"]
    with pytest.raises(NotFound, match="'hok'") as missing:
        find(known, ["hok"])
    assert "'hook'" in missing.value.hint
    with pytest.raises(ConfigurationError) as none:
        find(settings(tmp_path, ""))
    assert PROJECT_FILE in none.value.hint


@pytest.mark.parametrize(
    ("table", "path", "problem"),
    [
        ("", "relays.x.to", "is missing"),
        ("to = 7", "relays.x.to", "expected `str`"),
        ('to = "amqp://host"', "relays.x.to", "leads nowhere"),
        ('to = "redis:host"', "relays.x.to", "is not a URL"),
        ('to = "redis://host:port"', "relays.x.to", "is not a URL"),
        ('to = "redis://one:1,two:2"', "relays.x.to", "names more than one server"),
        ('to = "kafka://one:1,:2"', "relays.x.to", "is not a URL"),
        ('to = "redis://host"\ntopic = "t"', "relays.x.topic", "means nothing to redis"),
        ('to = "https://host"\nstream = "t"', "relays.x.stream", "means nothing to a webhook"),
        ('to = "nats://host"\ngive_up_s = 5', "relays.x.give_up_s", "means nothing to nats"),
        ('to = "kafka://host/t"\ntopic = "t"', "relays.x.topic", "is named by the address already"),
        ('to = "nats://host"\nsubject = "a b"', "relays.x.subject", "is not a name"),
        ('to = "nats://host"\ntypes = "tool.*"', "relays.x.types", "expected `array`"),
        ('to = "nats://host"\ntypes = [""]', "relays.x.types", "holds an empty text"),
        ('to = "nats://host"\nbegin = "now"', "relays.x.begin", "invalid enum value"),
        ('to = "nats://host"\nbegin = -1', "relays.x.begin", "expected `int` >= 0"),
        ('to = "redis://host"\nlength_max = 0', "relays.x.length_max", "expected `int` >= 1"),
        ('to = "https://host"\nsecret_env = "whsec_C2FV+b5"', "relays.x.secret_env", "never the secret itself"),
        ('to = "https://host"\nsecret_en = "A"', "relays.x.secret_en", "did you mean"),
    ],
)
def test_every_mistake_is_named_with_its_path(tmp_path: Path, table: str, path: str, problem: str) -> None:
    with pytest.raises(DefinitionInvalid) as invalid:
        settings(tmp_path, f"[relays.x]\n{table}\n")
    ((where, what),) = invalid.value.problems
    assert (where, problem in what) == (path, True), what
    assert "C2FV" not in str(invalid.value)


def test_a_name_is_one_that_fits_everywhere(tmp_path: Path) -> None:
    with pytest.raises(DefinitionInvalid, match=r"relays\.My relay"):
        settings(tmp_path, '[relays."My relay"]\nto = "redis://host"\n')


async def test_a_secret_that_is_not_set_is_missed_when_the_relay_is_made_and_not_before(tmp_path: Path) -> None:
    known = settings(tmp_path, ALL, {"HOME": "/home-of-anna"})
    parts = await connect(known)
    with pytest.raises(ConfigurationError, match="HOOK_SECRETS"):
        make_bus(known.relays["hook"], parts)
    await parts.close()


async def test_a_broken_secret_is_refused_without_being_shown(tmp_path: Path) -> None:
    known = settings(tmp_path, ALL, ENVIRON | {"HOOK_SECRETS": "hunter2"})
    parts = await connect(known)
    with pytest.raises(ConfigurationError) as refused:
        make_bus(known.relays["hook"], parts)
    assert "hunter2" not in repr(refused.value.as_dict())
    await parts.close()
