"""Python functions as tools: a decorator that reads what a function says of itself, and the host that calls it."""

import functools
import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any, Generic, ParamSpec, TypeVar, get_args, overload

import msgspec

from ostler.adapters.tools.signature import convert, read_signature, to_json
from ostler.adapters.tools.thread import in_thread
from ostler.domain.secret import OURS, is_lendable
from ostler.domain.tool import (
    TIERS,
    Effect,
    FailureKind,
    Isolation,
    Role,
    ToolOutcome,
    ToolRequest,
    ToolSpec,
    failed,
    is_at_least,
    succeeded,
)
from ostler.kernel.errors import DefinitionInvalid, SandboxUnavailable, ToolError, ToolNotFound, ToolTimeout, UsageError

P = ParamSpec("P")
R = TypeVar("R")

Reconcile = Callable[[ToolRequest], object]
"""Says what came of the call with the request's key, or None if it did not happen. May be a coroutine function."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")


class Failure(Exception):
    """Raised by a tool that knows which kind of failure it has met."""

    def __init__(self, kind: FailureKind, reason: str) -> None:
        self.kind: FailureKind = kind
        self.reason = reason
        super().__init__(reason)


class Tool(Generic[P, R]):
    """A function with a promise: called like the function that it is, and known to agents by its `spec`."""

    def __init__(self, function: Callable[P, R], spec: ToolSpec, reconcile: Reconcile | None) -> None:
        """Use the decorator `tool`. Raises `DefinitionInvalid`."""
        self.function = function
        signature = read_signature(function, f"tool {spec.name!r}")
        self.spec = msgspec.structs.replace(
            spec, description=spec.description or signature.description, parameters=signature.parameters
        )
        unknown = [name for name in spec.destinations if name not in signature.parameters["properties"]]
        if unknown:
            raise DefinitionInvalid(
                f"tool {spec.name!r}", [("destinations", f"{name!r} is no parameter") for name in unknown]
            )
        self._arguments = signature.arguments
        self._request = signature.request
        self._is_async = inspect.iscoroutinefunction(function)
        self._reconcile = reconcile
        functools.update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<tool {self.spec.name} ({self.spec.effect})>"

    async def perform(self, request: ToolRequest) -> ToolOutcome:
        """Call the function with the request's arguments; whatever it does, there is an outcome."""
        try:
            arguments = msgspec.structs.asdict(convert(request.arguments, self._arguments))
        except msgspec.ValidationError as error:
            return failed("invalid", str(error))
        if self._request is not None:
            arguments[self._request] = request
        try:
            if self._is_async:
                return _outcome(await self.function(**arguments))  # type: ignore[misc, call-arg]
            return await in_thread(lambda: _outcome(self.function(**arguments)))  # type: ignore[call-arg]
        except SandboxUnavailable:  # for whoever runs this process; there is nothing that the model could do
            raise
        except (Exception, SystemExit) as error:
            return _failure(error)

    async def reconcile(self, request: ToolRequest) -> ToolOutcome | None:
        """Raises `UsageError` for other effects: there, silence would be taken for "it did not happen"."""
        if self._reconcile is None:
            raise UsageError(f"{self.spec.name!r} cannot say whether a call happened: it is {self.spec.effect!r}.")
        ask = self._reconcile
        try:
            if inspect.iscoroutinefunction(ask):
                answer = await ask(request)
            else:
                answer = await in_thread(lambda: ask(request))
        except ToolError:
            raise
        except Exception as error:
            raise ToolError(f"Reconciling {self.spec.name!r} failed: {_text(error)}") from error
        return None if answer is None else _outcome(answer)


@overload
def tool(function: Callable[P, R], /) -> Tool[P, R]: ...
@overload
def tool(
    *,
    name: str = "",
    effect: Effect = "once",
    timeout_s: float = 60.0,
    scopes: Sequence[str] = (),
    credentials: Sequence[str] = (),
    roles: Sequence[Role] = (),
    destinations: Sequence[str] = (),
    isolation: Isolation = "none",
    returns: dict[str, Any] | None = None,
    reconcile: Reconcile | None = None,
    attempts: int = 3,
    share_s: float | None = None,
    compensate: str = "",
) -> Callable[[Callable[P, R]], Tool[P, R]]: ...


def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str = "",
    effect: Effect = "once",
    timeout_s: float = 60.0,
    scopes: Sequence[str] = (),
    credentials: Sequence[str] = (),
    roles: Sequence[Role] = (),
    destinations: Sequence[str] = (),
    isolation: Isolation = "none",
    returns: dict[str, Any] | None = None,
    reconcile: Reconcile | None = None,
    attempts: int = 3,
    share_s: float | None = None,
    compensate: str = "",
) -> Any:
    """Make a function a tool.

    The name is the function's, the description its docstring, the schema comes from its type hints (standard types,
    enums, dataclasses, TypedDicts, msgspec structs, pydantic models) and the docstring's `Args:` or `:param name:`.
    A parameter annotated `ToolRequest` gets the request, with the idempotency key, and is not shown to models.

    A plain function runs in a thread of its own: cancelling stops it at its next Python instruction, but nothing stops
    one that is blocked inside C code. Without `effect` a tool is taken to be one that must never be repeated.
    `credentials` are names in the vault, whose values `ostler.credential` gives while the function is called. `roles`
    say what it does that policies care about, and `destinations` which arguments say where something goes or what is
    acted upon. A result that does not fit the JSON Schema `returns` is withheld. `isolation` is the weakest tier in
    which it may run; a function runs in this process, and so can only promise `none`. A call that fails for the moment
    (`ToolOutcome(False, "…", "transient")`) is made up to `attempts` times, if its effect allows it; with `share_s`,
    equal calls of a tenant get one result, those at the same time and those up to so many seconds later (only for
    `read`). The tool `compensate` is called by the runtime if a call has lowered a fitness target, with the same
    arguments as far as it has parameters of these names, and with what came of the call as `output`.
    Raises `DefinitionInvalid` with every problem that the function has.
    """

    def decorate(function: Callable[..., Any]) -> Tool[..., Any]:
        spec = ToolSpec(
            name=name or getattr(function, "__name__", ""),
            description="",
            parameters={},
            effect=effect,
            timeout_s=timeout_s,
            scopes=tuple(scopes),
            credentials=tuple(credentials),
            roles=tuple(roles),
            destinations=tuple(destinations),
            isolation=isolation,
            returns=returns,
            attempts=attempts,
            share_s=share_s,
            compensate=compensate,
        )
        if problems := _problems(spec, reconcile):
            raise DefinitionInvalid(f"tool {spec.name!r}", problems)
        return Tool(function, spec, reconcile)

    return decorate if function is None else decorate(function)


class FunctionTools:
    """Hosts decorated functions."""

    def __init__(self, tools: Sequence[Tool[..., Any]]) -> None:
        """Raises `DefinitionInvalid` if two have the same name."""
        self._tools: dict[str, Tool[..., Any]] = {}
        twice = {tool.spec.name for tool in tools if self._tools.setdefault(tool.spec.name, tool) is not tool}
        if twice:
            raise _named_twice(sorted(twice))

    def add(self, tool: Tool[..., Any]) -> None:
        """Host one more; adding it again changes nothing. Raises `DefinitionInvalid` if another has its name."""
        if self._tools.setdefault(tool.spec.name, tool) is not tool:
            raise _named_twice([tool.spec.name])

    def specs(self) -> Sequence[ToolSpec]:
        return [tool.spec for tool in self._tools.values()]

    def tier(self, request: ToolRequest) -> Isolation:
        """Where the call would run: in this process, unless a host does better."""
        return "none"

    async def perform(self, request: ToolRequest) -> ToolOutcome:
        """Raises `SandboxUnavailable` for a call that must not run in so weak a tier; it is never silently lowered."""
        tier = self.tier(request)
        if not is_at_least(tier, request.isolation):
            raise SandboxUnavailable(
                f"{request.tool} must run in {request.isolation!r} at least, and would run in {tier!r} here.",
                hint="Start the session with a stronger --sandbox, or use a tool that runs in one.",
            )
        return await self._tool(request).perform(request)

    async def reconcile(self, request: ToolRequest) -> ToolOutcome | None:
        return await self._tool(request).reconcile(request)

    async def close(self) -> None:
        """There is nothing to let go of."""

    def _tool(self, request: ToolRequest) -> Tool[..., Any]:
        try:
            return self._tools[request.tool]
        except KeyError:
            raise ToolNotFound(
                f"This process has no implementation of the tool {request.tool!r}.",
                hint="Register it where the runtime is opened; it has: " + (", ".join(sorted(self._tools)) or "none"),
            ) from None


def _named_twice(names: Sequence[str]) -> DefinitionInvalid:
    return DefinitionInvalid("tools", [(name, "is the name of more than one tool") for name in names])


def _problems(spec: ToolSpec, reconcile: Reconcile | None) -> list[tuple[str, str]]:
    problems = []
    if not _NAME.fullmatch(spec.name):
        problems.append(("name", "must begin with a letter and have up to 64 letters, digits, '_', '.' or '-'"))
    if spec.effect not in ("read", "idempotent", "reconcilable", "once"):
        problems.append(("effect", f"{spec.effect!r} is none of read, idempotent, reconcilable, once"))
    if not spec.timeout_s > 0:
        problems.append(("timeout_s", "must be greater than 0"))
    problems += [
        ("credentials", f"{name!r} is nothing that a tool is lent: write it like GITHUB_TOKEN, and not like {OURS}…")
        for name in spec.credentials
        if not is_lendable(name)
    ]
    problems += [
        ("roles", f"{role!r} is none of {', '.join(get_args(Role))}")
        for role in spec.roles
        if role not in get_args(Role)
    ]
    if spec.isolation not in TIERS:
        problems.append(("isolation", f"{spec.isolation!r} is none of {', '.join(TIERS)}"))
    if spec.effect == "reconcilable" and reconcile is None:
        problems.append(("reconcile", "is what makes a tool reconcilable, and is missing"))
    if spec.attempts < 1:
        problems.append(("attempts", f"counts the first one, too, and is {spec.attempts}"))
    if spec.share_s is not None and (spec.effect != "read" or spec.share_s < 0):
        problems.append(("share_s", "is not negative, and only for tools with effect 'read'"))
    if spec.effect != "reconcilable" and reconcile is not None:
        problems.append(("reconcile", f"is never asked of a tool with effect {spec.effect!r}"))
    return problems


def _outcome(value: object) -> ToolOutcome:
    try:
        return succeeded(value)
    except TypeError:
        return succeeded(msgspec.to_builtins(value, str_keys=True, enc_hook=to_json))


def _failure(error: BaseException) -> ToolOutcome:
    """What the model is told of an exception: never a traceback."""
    if isinstance(error, Failure):
        return failed(error.kind, error.reason)
    if isinstance(error, ToolTimeout):
        return failed("timeout", _hinted(error))
    if isinstance(error, ToolNotFound):
        return failed("not_found", _hinted(error))
    if isinstance(error, ToolError):
        return failed("transient" if error.retryable else "permanent", _hinted(error))
    return failed("permanent", _text(error))


def _hinted(error: ToolError) -> str:
    return f"{error.message} {error.hint}".strip()


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
