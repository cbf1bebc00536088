"""What to do on this machine so that commands can be isolated on it."""

import os
import shutil
from pathlib import Path

OTHERWISE = "Or do without isolation, explicitly: ostler run --sandbox=none."

_INSTALLERS = (
    ("apt-get", "apt-get install"),
    ("dnf", "dnf install"),
    ("pacman", "pacman -S"),
    ("zypper", "zypper install"),
    ("apk", "apk add"),
)
_SWITCHES = (
    ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),  # Ubuntu since 23.10
    ("kernel.unprivileged_userns_clone", "0", "1"),  # Debian before 11
    ("user.max_user_namespaces", "0", "15000"),
)
"""Settings of a kernel by which user namespaces are switched off, and their values for no and yes."""

_SETTINGS = Path("/proc/sys")


def install(package: str) -> str:
    """How to install a package, with the first package manager that there is."""
    command = next((command for program, command in _INSTALLERS if shutil.which(program)), _INSTALLERS[0][1])
    return f"Install it: {_as_root(f'{command} {package}')}."


def allow_namespaces() -> str:
    """How to switch user namespaces on, if a setting of this kernel switches them off; else nothing."""
    for setting, forbids, allows in _SWITCHES:
        path = _SETTINGS.joinpath(*setting.split("."))
        if path.is_file() and path.read_text().strip() == forbids:
            return f"This kernel forbids it. Allow it: {_as_root(f'sysctl -w {setting}={allows}')}."
    return ""


def _as_root(command: str) -> str:
    return command if os.geteuid() == 0 else f"sudo {command}"
