"""What holds for every test: no network, no keys from outside, no silent skips in CI, a seed in every failure."""

import ipaddress
import os
import sys
from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# The contract suites show what they compared, like every test.
pytest.register_assert_rewrite("ostler.testing")

# Examples are judged by what they show and never by how long they take on a busy machine. New ones are looked for at
# home; in CI the same commit gives the same result.
settings.register_profile(
    "ostler",
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("ostler")

FROM_OUTSIDE = ("ANTHROPIC_", "GEMINI_", "GOOGLE_", "OPENAI_", "OLLAMA_", "OSTLER_")
"""Prefixes of the environment variables that would let the developer's own settings decide what a test sees."""

OURS = ("OSTLER_UPDATE_GOLDEN",)


class NetworkRefused(Exception):
    """A test tried to leave this machine."""


def _is_local(host: object) -> bool:
    if host in (None, "", b"", "localhost", b"localhost"):
        return True
    try:
        return ipaddress.ip_address(str(host).partition("%")[0]).is_loopback
    except ValueError:
        return False


def _stay_on_this_machine(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook, because it sees every connection of every thread and library of this process."""
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    elif event == "socket.getaddrinfo":
        host = arguments[0]
    else:
        return
    if not _is_local(host):
        raise NetworkRefused(f"tests do not use the network, and this one asked for {host}")


sys.addaudithook(_stay_on_this_machine)


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(FROM_OUTSIDE) and name not in OURS:
            monkeypatch.delenv(name)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A missing service may skip a test at home. In CI it fails it."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("CI"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and nothing may be skipped in CI: {report.longrepr}"
    return report
