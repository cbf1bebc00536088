"""A single event is proved without any other, and by nothing else than what it said."""

import base64

import msgspec
import pytest

from ostler.app.audit.proof import prove, verify_proof
from ostler.kernel.errors import Conflict, Erased, NotFound, StoreCorrupt, UsageError
from ostler.kernel.event import StreamId
from tests.app.audit.stable import KEY, STRANGER, Stable

ONE = StreamId("acme", "ses_1")
ACME = KEY.verifier("acme")


async def proved(seq=2, name="ses_1"):
    stable = await Stable.open("memory:")
    await stable.write("ses_1", 3)
    await stable.write("ses_2", 3, said="private")
    await stable.sign()
    return await prove(stable.store, stable.tree, StreamId("acme", name), seq)


def outcomes(text, *keys):
    return {check.name: check.outcome for check in verify_proof(text, keys)}


@pytest.mark.parametrize("seq", [1, 2, 3])
async def test_an_event_is_proved_and_nothing_is_said_of_others(seq):
    text = await proved(seq)
    assert outcomes(text, ACME) == {"signatures": "holds", f"decision ses_1/{seq}": "holds"}
    assert outcomes(text) == {"signatures": "unchecked", f"decision ses_1/{seq}": "holds"}
    assert f'"bale":{seq}' in verify_proof(text, [ACME])[-1].found
    assert b"private" not in base64.b64decode(text.split()[2])


async def test_the_proof_has_the_form_of_the_specification():
    first, extra, index, *path = (await proved()).partition("\n\n")[0].split("\n")
    assert (first, extra[:6], index) == ("c2sp.org/tlog-proof@v1", "extra ", "index 1")
    assert [len(base64.b64decode(one)) for one in path] == [32, 32, 32]


async def test_a_proof_of_something_else_does_not_hold():
    text = await proved()
    extra = text.split()[2]
    said = msgspec.json.decode(base64.b64decode(extra))
    for lie in (
        {"event": {"type": "oats.eaten"}},
        {"seq": 3},
        {"at_us": said["at_us"] + 1},
        {"stream": "ses_2"},
        {"tenant": "rival"},
        {"previous": "00" * 32},
    ):
        forged = text.replace(extra, base64.b64encode(msgspec.json.encode(said | lie)).decode())
        assert list(outcomes(forged, ACME).values())[1] == "fails", lie
    assert outcomes(text.replace("index 1", "index 2"), ACME)["decision ses_1/2"] == "fails"
    assert outcomes(text, STRANGER.verifier("acme"))["signatures"] == "fails"
    assert outcomes(text, KEY.verifier("rival"))["signatures"] == "fails"


async def test_what_is_no_proof_is_refused():
    text = await proved()
    for wrong in ("", "x", text.replace("@v1", "@v2"), text.replace("extra ", "extra !"), text.partition("\n\n")[0]):
        with pytest.raises(UsageError):
            verify_proof(wrong, [ACME])


async def test_only_what_is_there_readable_and_signed_for_can_be_proved():
    stable = await Stable.open("memory:")
    await stable.write("ses_1", 3)
    await stable.tree.catch_up()
    with pytest.raises(Conflict, match="not signed for"):
        await prove(stable.store, stable.tree, ONE, 1)
    await stable.sign()
    for stream, seq in ((ONE, 0), (ONE, 4), (StreamId("acme", "ses_9"), 1), (StreamId("rival", "ses_1"), 1)):
        with pytest.raises(NotFound):
            await prove(stable.store, stable.tree, stream, seq)
    await stable.write("ses_1")
    with pytest.raises(Conflict, match="not signed for"):
        await prove(stable.store, stable.tree, ONE, 4)
    await stable.erase("ses_1")
    with pytest.raises(Erased):
        await prove(stable.store, stable.tree, ONE, 1)


async def test_an_event_that_is_not_what_was_there_is_not_proved(monkeypatch):
    stable = await Stable.open("memory:")
    await stable.write("ses_1", 3)
    await stable.sign()
    read = stable.store.read

    async def lie(stream, **options):
        return [msgspec.structs.replace(record, hash=bytes(32)) for record in await read(stream, **options)]

    with monkeypatch.context() as patch:
        patch.setattr(
            stable.store, "read", lambda stream, **options: (lie if stream == ONE else read)(stream, **options)
        )
        with pytest.raises(StoreCorrupt, match="not what stood there"):
            await prove(stable.store, stable.tree, ONE, 2)
