"""Several vaults as one."""

from collections.abc import Sequence

from ostler.domain.secret import Secret
from ostler.kernel.errors import SecretMissing
from ostler.ports import Vault


class Vaults:
    """Looks in one after the other; what is in the first hides what is in the others."""

    def __init__(self, vaults: Sequence[Vault]) -> None:
        self._vaults = tuple(vaults)

    async def get(self, tenant: str, name: str) -> Secret:
        for vault in self._vaults:
            try:
                return await vault.get(tenant, name)
            except SecretMissing:
                continue
        raise SecretMissing(
            f"No vault has the secret {name} of the tenant {tenant}.",
            hint=f"Put it there with `ostler vault set {name}`, or set a variable: see `ostler vault list`.",
        )

    async def names(self, tenant: str) -> Sequence[str]:
        found = [await vault.names(tenant) for vault in self._vaults]
        return sorted({name for names in found for name in names})
