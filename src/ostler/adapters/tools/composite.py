"""Several tool hosts as one."""

from collections.abc import Sequence

from ostler.domain.tool import ToolOutcome, ToolRequest, ToolSpec
from ostler.kernel.errors import DefinitionInvalid, ToolNotFound
from ostler.ports import ToolHost


class Toolbox:
    """Passes each call to the host that has the tool."""

    def __init__(self, hosts: Sequence[ToolHost]) -> None:
        """Raises `DefinitionInvalid` if two hosts have a tool of the same name."""
        self._hosts = tuple(hosts)
        self._owners = self._find()

    def specs(self) -> Sequence[ToolSpec]:
        return [spec for host in self._hosts for spec in host.specs()]

    async def perform(self, request: ToolRequest) -> ToolOutcome:
        return await self._owner(request).perform(request)

    async def reconcile(self, request: ToolRequest) -> ToolOutcome | None:
        return await self._owner(request).reconcile(request)

    async def close(self) -> None:
        for host in self._hosts:
            await host.close()

    def _owner(self, request: ToolRequest) -> ToolHost:
        if request.tool not in self._owners:
            self._owners = self._find()  # a host may have got more
        owner = self._owners.get(request.tool)
        if owner is None:
            raise ToolNotFound(
                f"This process has no implementation of the tool {request.tool!r}.",
                hint="Register it where the runtime is opened; it has: " + (", ".join(sorted(self._owners)) or "none"),
            )
        return owner

    def _find(self) -> dict[str, ToolHost]:
        owners: dict[str, ToolHost] = {}
        problems = []
        for host in self._hosts:
            for spec in host.specs():
                if owners.setdefault(spec.name, host) is not host:
                    problems.append((spec.name, "is the name of more than one tool"))
        if problems:
            raise DefinitionInvalid("tools", problems)
        return owners
