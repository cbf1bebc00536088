"""What goes in and comes out of a session, before it is recorded: goals, results of tools, replies of models.

Pure: whoever calls a tool or a model screens what came back before anything is written down, so that what a rule takes
out is never stored.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from ostler.domain.constraint.facts import Kind
from ostler.domain.model import AskedCall, Reply
from ostler.domain.schema import Problem, Schema, Validator, compile_schema, parse_json
from ostler.domain.screening.controls import acting, acts, neutralise, neutralise_json
from ostler.domain.screening.detectors import BUILTIN, Detectors
from ostler.domain.screening.redaction import find, redact, redact_json
from ostler.domain.suggest import did_you_mean
from ostler.domain.tool import ToolOutcome, failed

OUTPUT_CHARACTERS_MAX = 16 * 1024 * 1024
"""What a tool returns beyond this is cut off; what is kept of it is bounded by the tool's own `output_bytes_max`."""
GOAL_BYTES_MAX = 256 * 1024
INPUT_BYTES_MAX = 64 * 1024


class ScreenedOutcome(msgspec.Struct, frozen=True):
    """What is left of an outcome. `redacted` counts what was taken out by kind, `neutralised` control characters.

    `problems` says why a result was withheld, or cut off; they are in the outcome, too, for the model to read.
    """

    outcome: ToolOutcome
    redacted: dict[str, int]
    neutralised: int = 0
    problems: tuple[str, ...] = ()


class ScreenedReply(msgspec.Struct, frozen=True):
    """What is left of a reply; see `ScreenedOutcome`."""

    reply: Reply
    redacted: dict[str, int]
    neutralised: int = 0


class DeclaredInput(msgspec.Struct, frozen=True):
    """An input that a policy declares: its type, and whether it may be left out."""

    kind: Kind
    is_required: bool = True


def screen_output(
    tool: str,
    outcome: ToolOutcome,
    *,
    names: Sequence[str] = (),
    returns: Schema | None = None,
    detectors: Detectors = BUILTIN,
) -> ScreenedOutcome:
    """The outcome of a call as it may be recorded and shown to a model. It has not been cut to a preview before.

    `names` are globs of detectors, `returns` the JSON Schema of what the tool promises to return. In this order: what
    is too long is cut off; what only claims to be JSON becomes text; a result that does not fit its schema is withheld,
    with a failure that says that the call was performed; control characters lose their power; findings are redacted.
    JSON stays valid, and on one line. A failure's reason is screened like a text.
    """
    if not names and returns is None and _is_plain(outcome):
        return ScreenedOutcome(outcome, {})
    bounded, problems = _bounded(outcome)
    value, is_json = _value(bounded)
    if outcome.ok and returns is not None and not problems:
        misfits = _validator(msgspec.json.encode(returns))(value)[1]
        if misfits:
            return _withheld(tool, misfits, names, detectors)
    if is_json:
        seen = neutralise_json(msgspec.json.format(bounded.output, indent=-1))
        cleared = redact_json(seen.text, names, detectors)
    else:
        seen = neutralise(bounded.output)
        cleared = redact(seen.text, names, detectors)
    kept = msgspec.structs.replace(bounded, output=cleared.text, is_json=is_json)
    return ScreenedOutcome(kept, cleared.counts, seen.changed, problems)


def screen_reply(reply: Reply, *, names: Sequence[str] = (), detectors: Detectors = BUILTIN) -> ScreenedReply:
    """A model's reply as it may be recorded and acted upon: its text, its thoughts, and its calls with their arguments.

    A thought in which something is found is left out as a whole: changed, it would be refused by those who wrote it.
    """
    is_plain = not acts(reply.text) and not any(acts(call.name) or acts(call.arguments) for call in reply.calls)
    if not names and is_plain and not any(acts(thought.text) for thought in reply.reasoning):
        return ScreenedReply(reply, {})
    counts: dict[str, int] = {}
    text, neutralised = neutralise(reply.text)
    calls = []
    for call in reply.calls:
        screened, count = _screen_call(call, names, detectors, counts)
        calls.append(screened)
        neutralised += count
    thoughts = []
    for thought in reply.reasoning:
        words, changed = neutralise(thought.text)
        if _redacted(words, names, detectors, counts) == words:
            thoughts.append(msgspec.structs.replace(thought, text=words))
        neutralised += changed
    kept = msgspec.structs.replace(
        reply, text=_redacted(text, names, detectors, counts), calls=tuple(calls), reasoning=tuple(thoughts)
    )
    return ScreenedReply(kept, counts, neutralised)


def screen_goal(
    goal: str,
    *,
    declared: Mapping[str, DeclaredInput] | None = None,
    inputs: Mapping[str, Any] | None = None,
    names: Sequence[str] = (),
    detectors: Detectors = BUILTIN,
) -> list[tuple[str, str]]:
    """Everything that keeps a session from starting with this goal and these inputs, as (path, what is wrong there).

    No problem repeats what it found. `names` are globs of detectors of what must not be in a goal or an input.
    """
    problems = [("goal", problem) for problem in _problems_in_text(goal, GOAL_BYTES_MAX, names, detectors)]
    if not goal.strip():
        problems.append(("goal", "is empty: say what is to be reached"))
    wanted, given = declared or {}, inputs or {}
    for name, value in given.items():
        if name not in wanted:
            near = did_you_mean(name, list(wanted))
            hint = f"did you mean {near!r}?" if near else f"there are: {', '.join(wanted) or 'none'}"
            problems.append((f"inputs.{name}", f"is not declared ({hint})"))
        elif problem := _misfit_of_kind(value, wanted[name].kind):
            problems.append((f"inputs.{name}", problem))
        else:
            text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
            found = _problems_in_text(text, INPUT_BYTES_MAX, names, detectors)
            problems += [(f"inputs.{name}", problem) for problem in found]
    for name, each in wanted.items():
        if each.is_required and name not in given:
            problems.append((f"inputs.{name}", f"is missing: a {each.kind} that the policy has no default for"))
    return problems


def _is_plain(outcome: ToolOutcome) -> bool:
    """Whether there is nothing in an outcome that has to be changed where nothing is to be redacted."""
    if len(outcome.output) > OUTPUT_CHARACTERS_MAX or acts(outcome.output):
        return False
    if not outcome.is_json:
        return True
    try:
        msgspec.json.decode(outcome.output, type=msgspec.Raw)
    except msgspec.DecodeError:
        return False
    return outcome.ok and "\n" not in outcome.output


def _bounded(outcome: ToolOutcome) -> tuple[ToolOutcome, tuple[str, ...]]:
    size = len(outcome.output)
    if size <= OUTPUT_CHARACTERS_MAX:
        return outcome, ()
    note = f"[{size - OUTPUT_CHARACTERS_MAX} of {size} characters were cut off: no result may be longer]"
    output = f"{outcome.output[:OUTPUT_CHARACTERS_MAX]}\n{note}"
    return msgspec.structs.replace(outcome, output=output, is_json=False), (note,)


def _value(outcome: ToolOutcome) -> tuple[Any, bool]:
    """The value of an outcome, and whether it really is JSON."""
    if outcome.ok and outcome.is_json:
        value, fault = parse_json(outcome.output)
        if fault is None:
            return value, True
    return outcome.output, False


def _withheld(tool: str, misfits: Sequence[Problem], names: Sequence[str], detectors: Detectors) -> ScreenedOutcome:
    """A failure in place of a result that does not fit. Where something is to be redacted, no value is quoted."""
    told = "; ".join(_told(misfit, is_quoting=not names) for misfit in misfits)
    cleared = redact(neutralise(told).text, names, detectors)
    reason = f"{tool} was performed, but what it returned is not what it promises, and is withheld: {cleared.text}"
    return ScreenedOutcome(failed("permanent", reason), cleared.counts, problems=(reason,))


def _told(misfit: Problem, *, is_quoting: bool) -> str:
    if is_quoting:
        return f"{misfit.path}: {misfit.message}" if misfit.path else misfit.message
    return f"{misfit.path or 'the whole'} does not fit"


@lru_cache(maxsize=1024)
def _validator(encoded: bytes) -> Validator:
    return compile_schema(msgspec.json.decode(encoded), "what the tool returns")


def _screen_call(
    call: AskedCall, names: Sequence[str], detectors: Detectors, counts: dict[str, int]
) -> tuple[AskedCall, int]:
    name, in_name = neutralise(call.name)
    if parse_json(call.arguments)[1] is None:
        arguments, in_arguments = neutralise_json(call.arguments)
        cleared = redact_json(arguments, names, detectors)
        _add(counts, cleared.counts)
        text = cleared.text
    else:
        arguments, in_arguments = neutralise(call.arguments)
        text = _redacted(arguments, names, detectors, counts)
    return AskedCall(call.id, _redacted(name, names, detectors, counts), text), in_name + in_arguments


def _redacted(text: str, names: Sequence[str], detectors: Detectors, counts: dict[str, int]) -> str:
    cleared = redact(text, names, detectors)
    _add(counts, cleared.counts)
    return cleared.text


def _add(counts: dict[str, int], more: Mapping[str, int]) -> None:
    for kind, count in more.items():
        counts[kind] = counts.get(kind, 0) + count


def _problems_in_text(text: str, bytes_max: int, names: Sequence[str], detectors: Detectors) -> list[str]:
    size = len(text.encode(errors="surrogatepass"))
    if size > bytes_max:
        return [
            f"has {size} bytes, and at most {bytes_max} are allowed: put long material into a file of the workspace"
        ]
    problems = []
    if (found := acting(text)) is not None:
        character = f"U+{ord(found[0][0]):04X}"
        problems.append(f"has the control character {character} {_place(text, found.start())}: take it out")
    problems += detectors.missing(names)
    if not detectors.missing(names):
        for finding in find(text, names, detectors):
            problems.append(f"has something {_place(text, finding.start)} that must not be there: {finding.kind}")
    return problems


def _place(text: str, position: int) -> str:
    return f"at line {text.count(chr(10), 0, position) + 1}, column {position - text.rfind(chr(10), 0, position)}"


def _misfit_of_kind(value: object, kind: Kind) -> str:
    """What is wrong with the value of an input; durations and money are texts (`2h`, `USD 20`), read by the policy."""
    fits = {
        "boolean": isinstance(value, bool),
        "number": isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf"),
        "text": isinstance(value, str),
        "set": isinstance(value, list | tuple | set | frozenset) and all(isinstance(item, str) for item in value),
        "list": isinstance(value, list | tuple),
        "duration": isinstance(value, str),
        "money": isinstance(value, str),
        "any": True,
    }
    return "" if fits[kind] else f"expected a {kind}, got {_word_for(value)}"


def _word_for(value: object) -> str:
    if isinstance(value, float):
        return "a number that is none" if value != value or value in (float("inf"), -float("inf")) else "a number"
    return {bool: "a boolean", int: "a number", str: "a text", type(None): "nothing"}.get(
        type(value), f"a {type(value).__name__}"
    )
