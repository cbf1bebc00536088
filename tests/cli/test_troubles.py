"""What keeps a worker from going on is told, and not again and again."""

import asyncio

import pytest

from ostler.cli import signals
from ostler.cli.signals import Troubles
from ostler.kernel.errors import StoreError, StoreFull


async def test_what_lasts_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    troubles = Troubles()
    for _ in range(5):
        troubles("ses_1", StoreFull(hint="Make space."))
    said = capsys.readouterr().err
    assert said.count("There is no space left") == 1
    assert said.count("Make space.") == 1
    assert "goes on by itself" in said


async def test_what_lasts_long_is_told_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signals, "REMIND_S", 0)
    troubles = Troubles()
    troubles("", StoreFull())
    troubles("", StoreFull())
    assert capsys.readouterr().err.count("Still waiting: There is no space left") == 1


async def test_the_end_of_it_is_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "OVER_S", 0)
    is_over = asyncio.Event()
    monkeypatch.setattr(signals, "say", lambda text: is_over.set() if text == "Going on." else None)
    troubles = Troubles()
    troubles("", StoreFull())
    async with asyncio.timeout(10):
        await is_over.wait()
    troubles("", StoreFull())
    assert capsys.readouterr().err.count("There is no space left") == 2, "what comes back is news"


async def test_what_cannot_pass_is_told_each_time(capsys: pytest.CaptureFixture[str]) -> None:
    troubles = Troubles()
    troubles("", StoreError("broken"))
    troubles("", StoreError("broken"))
    assert capsys.readouterr().err.count("broken") == 2
