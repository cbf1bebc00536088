"""A run as a person reads it: what the log took, what the world felt, what went wrong and who said what, by time."""

from collections.abc import Iterator

import msgspec

from ostler.testing.sim.history import Commit, History

_DULL = {"type", "session", "agent", "model", "by", "digest"}


def lines(history: History) -> Iterator[str]:
    """One line for everything that happened, in order."""
    found = [*_events(history), *_world(history), *_wishes(history)]
    found += [(at_s, f"! {where} {what}") for at_s, where, what in history.notes]
    for at_s, text in sorted(found, key=lambda line: line[0]):
        yield f"{at_s:9.3f}  {text}"


def _events(history: History) -> Iterator[tuple[float, str]]:
    records = {(tale.stream, record.seq): record for tale in history.tales for record in tale.records}
    for deed in history.deeds:
        if not isinstance(deed, Commit):
            yield deed.at_s, f"  {short(deed.stream.name)} is claimed under {deed.epoch}, by {short(deed.worker)}"
            continue
        under = "" if deed.epoch is None else f" under {deed.epoch}"
        for seq in range(deed.seq - deed.count + 1, deed.seq + 1):
            record = records.get((deed.stream, seq))
            if record is not None:
                yield deed.at_s, f"  {short(deed.stream.name)}/{seq}{under} {_event(record.data)}"


def _event(data: bytes) -> str:
    body = msgspec.json.decode(data)
    facts = " ".join(f"{name}={value!r}" for name, value in body.items() if name not in _DULL)
    return f"{body['type']} {facts}"[:160]


def _world(history: History) -> Iterator[tuple[float, str]]:
    for effect in history.effects:
        what = f"{effect.tool} of {short(effect.key)}, attempt {effect.attempt}, in {effect.process}"
        yield effect.began_s, f"* begins {what}"
        if effect.done_s is not None:
            yield effect.done_s, f"* has happened: {what}"
    for asked in history.asked:
        yield asked.began_s, f"* {asked.process} asks the model for {short(asked.key)}"


def _wishes(history: History) -> Iterator[tuple[float, str]]:
    for wish in history.wishes:
        outcome = f"event {wish.seq}" if wish.seq is not None else (wish.error or "no answer")
        about = f" call {wish.call}" if wish.call else ""
        yield wish.at_s, f"? a person wants {wish.kind}{about} of {short(wish.stream.name)}: {outcome}"


def short(name: str) -> str:
    """A name with an id cut to its end, which is where the ids of one run differ."""
    head, slash, tail = name.partition("/")
    kind, _, letters = head.partition("_")
    return f"{kind}_{letters[-4:]}{slash}{tail if kind == 'ses' else ''}".rstrip("/")
