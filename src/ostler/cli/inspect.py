"""One session in depth: inspect, why."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import click
import msgspec
from rich.console import Console
from rich.padding import Padding

from ostler.app.session import Session
from ostler.cli.base import acting_option, using_session
from ostler.cli.look import status
from ostler.cli.output import Format, Rows, blocks, console, output_options, put
from ostler.cli.words import arguments, count, duration, short, until, usd, whole
from ostler.domain import context
from ostler.domain.constraint.policy import Rule
from ostler.domain.grant import Grant
from ostler.domain.model import AssistantMessage, Message, ModelRequest, ToolMessage, UserMessage
from ostler.domain.session.events import Purpose
from ostler.domain.session.evolve import evolve
from ostler.domain.session.fork import Fact
from ostler.domain.session.state import OpenCall, State
from ostler.kernel.errors import NotFound
from ostler.runtime.replay import snapshot
from ostler.views.calls import CallView, calls
from ostler.views.sessions import SessionView, view
from ostler.views.why import Explanation, why_call, why_state

NEWEST = -1
PAGE_CHARS = 2000


@click.command()
@click.argument("session")
@click.option("--state", "shows_state", is_flag=True, help="The whole folded state, as canonical JSON.")
@click.option(
    "--context",
    "context_at",
    type=int,
    is_flag=False,
    flag_value=NEWEST,
    metavar="[SEQ]",
    help="What the model was shown where event SEQ asked it, or would be shown after it (without a number: the last).",
)
@acting_option
@output_options
def inspect(session: str, shows_state: bool, context_at: int | None, acting: str | None, output: Format) -> None:
    """Show everything about a session: usage, limits, policy, every call and what came of it."""

    async def ask(found: Session) -> list[Fact]:
        return await found.facts()

    facts = using_session(session, ask, acting)
    state = _state_at(facts, len(facts))
    if shows_state:
        click.echo(snapshot(state))
    elif context_at is not None:
        at = len(facts) if context_at == NEWEST else context_at
        _print_context(_state_at(facts, at), output)
    elif output != "table":
        put(_inspection(state, calls(facts)), output)
    else:
        _print(console(), state, view(state), calls(facts))


@click.command()
@click.argument("session")
@click.argument("subject", metavar="[CALL|SEQ]", required=False)
@acting_option
@output_options
def why(session: str, subject: str | None, acting: str | None, output: Format) -> None:
    """Explain one decision, or why a session is in the state it is in.

    CALL is the id of a call (3.1 is the first one of turn 3), SEQ the number of an event, as `ostler logs` shows them.
    """

    async def ask(found: Session) -> list[Fact]:
        return await found.facts()

    facts = using_session(session, ask, acting)
    state = _state_at(facts, len(facts))
    explained = why_state(state, facts) if subject is None else why_call(state, facts, subject)
    if output != "table":
        put(explained, output)
        return
    _print_explanation(console(), explained)


def _state_at(facts: Sequence[Fact], seq: int) -> State:
    if not 1 <= seq <= len(facts):
        raise NotFound(f"There is no event {seq} in this session: it has {len(facts)}.")
    state: State | None = None
    for at_us, event in facts[:seq]:
        state = evolve(state, event, at_us)
    assert state is not None
    return state


def _inspection(state: State, found: list[CallView]) -> dict[str, Any]:
    return {
        "session": view(state),
        "usage": state.usage,
        "context": _shown(state)[1],
        "limits": state.agent.limits,
        "policy": state.agent.policy,
        "policies": _policies(state),
        "grant": state.grant,
        "labels": _labels(state),
        "tools": [tool.name for tool in state.agent.tools],
        "by": state.by,
        "priority": state.priority,
        "calls": found,
    }


class Under(msgspec.Struct, frozen=True):
    """A policy of a session: a `layer` above the agent's own, that `own`, or one that is only tried."""

    name: str
    version: int
    digest: str
    place: Literal["layer", "own", "shadow"]


def _policies(state: State) -> list[Under]:
    """All of them, the outermost first; what a session was started with, or moved to."""
    compiled = state.guard.compiled
    *layers, own = compiled.layers
    return [
        *(Under(one.name, one.version, one.digest, "layer") for one in layers),
        Under(own.name, own.version, own.digest, "own"),
        *(Under(one.name, one.version, one.digest, "shadow") for one in compiled.shadow),
    ]


def _labels(state: State) -> list[str]:
    """The labels of all that has entered the session, such as `untrusted`."""
    return sorted({label for said in state.provenance for label in said.labels})


def _print(out: Console, state: State, shown: SessionView, found: list[CallView]) -> None:
    own = msgspec.structs.asdict(state.agent.limits)
    limits = {name: value for name, value in own.items() if isinstance(value, int | float)}
    tokens = state.usage
    cost = f", cost {usd(shown.cost_microusd)}" if tokens.total_tokens else ""
    header = [
        ("session", shown.id),
        ("status", status(shown)),
        ("said", short(shown.text or "")),
        ("agent", f"{shown.agent}, tools: {', '.join(tool.name for tool in state.agent.tools) or 'none'}"),
        ("model", str(state.model)),
        ("goal", short(shown.goal)),
        ("started", f"{shown.started} by {state.by.id}"),
        ("forked from", shown.origin or ""),
        ("priority", str(state.priority) if state.priority else ""),
        ("workspace", f"{shown.workspace}, sandbox {shown.sandbox}" if shown.workspace else ""),
        ("usage", f"{count(shown.steps, 'step')}, {count(shown.tool_calls, 'tool call')}{cost}"),
        (
            "tokens",
            f"{tokens.input_tokens:,} in, {tokens.output_tokens:,} out, {tokens.cache_read_tokens:,} cached"
            if tokens.total_tokens
            else "",
        ),
        ("context", _size(_shown(state)[1])),
        ("limits", ", ".join(f"{name} {value:,.15g}" for name, value in limits.items()) or "none"),
        *(("policy", _policy(one)) for one in _policies(state)),
        ("default", state.agent.policy.default if not state.agent.policy.text else ""),
        ("grant", _grant(state.grant) if state.grant is not None else ""),
        ("labels", ", ".join(_labels(state))),
    ]
    _print_pairs(out, [(name, value) for name, value in header if value])
    if state.agent.policy.rules:
        rows = [_rule(rule, f"{state.agent.policy.name}#{n}") for n, rule in enumerate(state.agent.policy.rules, 1)]
        out.print(Rows("rule", "says", "of~", "because~", rows=rows))
    if found:
        out.print(Rows("call", "what…", "stage", "attempts>", "took>", "outcome…", rows=[_row(call) for call in found]))
    if shown.approval is not None:
        asked = shown.approval
        _print_pairs(
            out,
            [
                ("waiting", f"call {asked.call}: {asked.tool} {arguments(asked.arguments)}"),
                ("rule", f"{asked.rule} {asked.reason}".strip()),
                ("until", until(asked.expires, datetime.now(UTC)) if asked.expires else "no end"),
                ("answer", f"ostler approve {shown.id}   or   ostler deny {shown.id}"),
            ],
        )


_PLACES = {"layer": "of the tenant or the start", "own": "the agent's own", "shadow": "only tried"}


def _policy(one: Under) -> str:
    return f"{one.name}@{one.version} {one.digest[:12]}, {_PLACES[one.place]}"


def _grant(grant: Grant) -> str:
    scopes, tools = " ".join(grant.scopes) or "none", " ".join(grant.tools) or "none"
    return f"{grant.id} of {grant.subject} to {grant.actor}, scopes: {scopes}, tools: {tools}"


def _rule(rule: Rule, name: str) -> tuple[str, str, str, str]:
    conditions = [f"{path} like {' or '.join(globs)}" for path, globs in rule.where.items()]
    conditions += [f"unless {path} like {' or '.join(globs)}" for path, globs in rule.unless.items()]
    within = f"within {rule.within_s:g} s" if rule.within_s is not None else ""
    of = ", ".join(part for part in (rule.tool, *conditions, within) if part)
    return rule.name or name, rule.effect, of, rule.because


def _row(call: CallView) -> tuple[str, ...]:
    given = arguments(call.arguments) if call.arguments is not None else call.asked
    what = f"{call.tool} {given}" if call.tool else "model"
    took = duration(call.took_us) if call.took_us is not None else "–"
    outcome = call.reason if call.stage in ("refused", "waiting") else call.outcome
    if call.stage in ("refused", "waiting") and call.rule:
        outcome = f"[{call.rule}] {outcome}"
    told = f"{call.kind}: {outcome}" if call.kind else outcome
    if call.shadow:
        told += f" (only tried: {'; '.join(call.shadow)})"
    return call.call, short(what, 80), call.stage, str(call.attempts or "–"), took, short(told, 120)


def _print_pairs(out: Console, pairs: Sequence[tuple[str, str]]) -> None:
    for name, value in pairs:
        out.print(f"{name:<12}", style="bold", end=" ")
        out.print(value, soft_wrap=True)


def _print_explanation(out: Console, explained: Explanation) -> None:
    out.print(f"{explained.question}:", style="bold")
    out.print(Padding(blocks([[(name, _legible(value)) for name, value in explained.answer.items()]]), (0, 0, 0, 2)))
    if explained.events:
        numbers = ", ".join(str(seq) for seq in explained.events)
        out.print(f"  Events {numbers}: ostler logs {explained.session}", style="dim", soft_wrap=True)


def _legible(text: str) -> str:
    """What a tool returned as text with its line breaks, rather than as JSON; and no more than a page of it."""
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        value = text
    if isinstance(value, dict):
        value = "\n".join(f"{name}: {whole(part)}" for name, part in value.items())
    shown = whole(value if isinstance(value, str) else text).rstrip()
    return shown if len(shown) <= PAGE_CHARS else f"{shown[:PAGE_CHARS]}…"


class Shown(msgspec.Struct, frozen=True):
    """How large what the model was shown is (`is_asked`), or would be shown; `turns_left_out` have no summary."""

    call: str
    is_asked: bool
    purpose: Purpose
    tokens: int
    window_tokens: int | None
    compactions: int
    turns_left_out: int


def _shown(state: State) -> tuple[ModelRequest, Shown]:
    asked = next((call for call in state.open if call.arguments is None), None)
    call = asked or OpenCall(str(state.steps + 1))
    request = context.request(state, call)
    if asked is None and state.inbox:
        request = msgspec.structs.replace(request, messages=context.next_messages(state))
    return request, Shown(
        call.id,
        asked is not None,
        call.purpose,
        context.estimated_input_tokens(state),
        context.window_of(state),
        state.context.compactions,
        state.context.left_out,
    )


def _size(shown: Shown) -> str:
    """`about 12,000 of 200,000 tokens, compacted 3 times, 14 turns left out`."""
    of = f" of {shown.window_tokens:,}" if shown.window_tokens is not None else ""
    parts = [f"about {shown.tokens:,}{of} tokens"]
    if shown.compactions:
        parts.append(f"compacted {count(shown.compactions, 'time')}")
    if shown.turns_left_out:
        parts.append(f"{count(shown.turns_left_out, 'turn')} left out")
    return ", ".join(parts)


def _print_context(state: State, output: Format) -> None:
    request, size = _shown(state)
    if output != "table":
        shown = {
            "size": size,
            "model": request.model,
            "system": request.system,
            "messages": list(request.messages),
            "tools": request.tools,
            "settings": request.settings,
        }
        put(shown, output)
        return
    out = console()
    out.print("system", style="bold")
    out.print(request.system, soft_wrap=True)
    for message in request.messages:
        title, text = _titled(message)
        out.print(title, style="bold")
        out.print(text, soft_wrap=True)
    asked = "was asked" if size.is_asked else "would be asked"
    what = "" if size.purpose == "turn" else f" for a {size.purpose}"
    model = f"{request.model.provider}:{request.model.name}"
    out.print(f"{model} {asked}{what} in turn {size.call}: {_size(size)}", style="dim", soft_wrap=True)


def _titled(message: Message) -> tuple[str, str]:
    match message:
        case UserMessage():
            images = [f"[{one.media_type}, {count(one.size, 'byte')}, {one.blob[:12]}]" for one in message.images]
            return "user", "\n".join([message.text, *images])
        case AssistantMessage():
            asked = [f"→ {call.id} {call.name} {call.arguments}" for call in message.calls]
            return "assistant", "\n".join(part for part in (message.text, *asked) if part)
        case ToolMessage():
            return f"tool {message.call} {message.name}", message.text
