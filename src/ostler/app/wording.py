"""Words for memories that say the same, found by a session of an agent: through the gate, and counted as any other."""

from collections.abc import Sequence

import msgspec

from ostler.app.project import Found, find_agent
from ostler.app.service import Runtime
from ostler.app.session import Session
from ostler.domain.identity import Principal
from ostler.domain.memory.memory import Memory
from ostler.domain.memory.scope import Scope
from ostler.kernel.errors import ConfigurationError, OstlerError
from ostler.runtime.memory.consolidation import Worded

PATIENCE_S = 300.0
"""How long a session may take; then it is cancelled, and the words of the newest memory stay."""

GOAL = """\
Each of these texts says the same as the others, in other words. Write one text that says all that they say together, \
and nothing that none of them says. Keep every name and number as it is.

"""
RETURNS = {
    "type": "object",
    "properties": {"text": {"type": "string", "minLength": 1, "maxLength": 16_000}},
    "required": ["text"],
    "additionalProperties": False,
}


class Wording:
    """Asks one agent of the project, in sessions of the tenant whose memories they are."""

    def __init__(self, runtime: Runtime, agent: str) -> None:
        self._runtime = runtime
        self._agent = agent

    async def __call__(self, scope: Scope, memories: Sequence[Memory]) -> Worded | None:
        """One text for these; None if the session does not find one, of which the operator is told."""
        texts = msgspec.json.encode([memory.text for memory in memories]).decode()
        session: Session | None = None
        try:
            found = self._found()
            by = Principal("consolidation", "service", scope.tenant)
            await self._runtime.serve(found.spec.name)
            session = await self._runtime.start(found.spec, GOAL + texts, model=found.model, by=by)
            await self._count(scope, memories, f"{session.id}/1")
            result = await session.result(timeout_s=PATIENCE_S)
            if result.is_success:
                return Worded(result.value["text"], session.id)
            raise OstlerError(f"{session.id} found no words for memories to be merged: {result.reason}.")
        except (OstlerError, TimeoutError) as error:
            trouble = error if isinstance(error, OstlerError) else OstlerError("Nobody found words for memories.")
            self._runtime.parts.trouble(trouble)
            if session is not None and isinstance(error, TimeoutError):
                await session.cancel(reason="it took too long")
            return None

    async def _count(self, scope: Scope, memories: Sequence[Memory], call: str) -> None:
        """Record that the session has them in sight, whatever comes of it: erasing them has to know."""
        kept = await self._runtime.parts.memories()
        await kept.count(await kept.index.get([scope], [memory.id for memory in memories]), call)

    def _found(self) -> Found:
        """The agent as it is asked. Raises `NotFound`, `DefinitionInvalid`, `ConfigurationError`."""
        found = find_agent(self._agent, self._runtime.settings, self._runtime.parts.tools.specs())
        if found.spec.tools or found.spec.memory is not None:
            raise ConfigurationError(
                f"The agent {self._agent!r} has tools or memory, and is to word what others remember.",
                hint="Name an agent without in [memory.consolidation] of ostler.toml.",
            )
        return msgspec.structs.replace(found, spec=msgspec.structs.replace(found.spec, returns=RETURNS))
