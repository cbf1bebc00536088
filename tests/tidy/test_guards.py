"""The guards of `tests/conftest.py` really guard."""

import os
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.tidy.rules import ROOT


@pytest.mark.parametrize("address", [("192.0.2.1", 80), ("2001:db8::1", 80, 0, 0)])
def test_a_connection_to_another_machine_is_refused(address: tuple[str, int]) -> None:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family) as connection, pytest.raises(Exception, match="tests do not use the network"):
        connection.connect(address)


def test_a_name_of_another_machine_is_not_even_looked_up() -> None:
    with pytest.raises(Exception, match=r"asked for example\.com"):
        urllib.request.urlopen("http://example.com")


def test_this_machine_can_be_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        assert client.getpeername() == server.getsockname()


def test_the_keys_of_the_developer_are_out_of_sight() -> None:
    assert not [name for name in os.environ if name.startswith(("ANTHROPIC_", "GEMINI_", "GOOGLE_", "OPENAI_"))]


@pytest.mark.parametrize(("environment", "outcome"), [({"CI": "1"}, "1 failed"), ({}, "1 skipped")])
def test_a_skip_fails_in_ci_and_only_there(environment: dict[str, str], outcome: str, tmp_path: Path) -> None:
    (tmp_path / "test_skip.py").write_text("import pytest\ndef test_it(): pytest.skip('no bubblewrap here')\n")
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-c", os.devnull, str(tmp_path)]
    path = {"PATH": os.environ["PATH"]}
    run = subprocess.run(command, cwd=ROOT, env=path | environment, capture_output=True, text=True, check=False)
    assert outcome in run.stdout
