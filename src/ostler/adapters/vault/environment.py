"""Secrets in variables of the environment."""

import re
from collections.abc import Mapping, Sequence

from ostler.domain.identity import DEFAULT_TENANT
from ostler.domain.secret import NAME, Secret, check_name
from ostler.kernel.errors import SecretMissing

PREFIX = "OSTLER_SECRET_"
BETWEEN = "__"
"""Parts a tenant from a name; neither can hold it."""

_TENANT = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")


class EnvironmentVault:
    """`OSTLER_SECRET_GITHUB_TOKEN` is the default tenant's, `OSTLER_SECRET_ACME_INC__GITHUB_TOKEN` that of `acme-inc`.

    A tenant whose name is not of small letters, digits and single '-' has nothing here: two of them could share a
    variable otherwise.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    async def get(self, tenant: str, name: str) -> Secret:
        check_name(name)
        prefix = _prefix(tenant)
        value = None if prefix is None else self._environ.get(prefix + name)
        if not value:
            variable = f"{prefix}{name}" if prefix is not None else "no variable: its name allows none"
            raise SecretMissing(f"The environment has no {name} of the tenant {tenant} ({variable}).")
        return Secret(name, value)

    async def names(self, tenant: str) -> Sequence[str]:
        prefix = _prefix(tenant)
        if prefix is None:
            return []
        found = [key.removeprefix(prefix) for key, value in self._environ.items() if key.startswith(prefix) and value]
        return sorted(name for name in found if NAME.fullmatch(name))


def _prefix(tenant: str) -> str | None:
    """What the variables of this tenant begin with. No two tenants can have the same variable."""
    if tenant == DEFAULT_TENANT:
        return PREFIX
    if not _TENANT.fullmatch(tenant):
        return None
    return f"{PREFIX}{tenant.upper().replace('-', '_')}{BETWEEN}"
