"""Wiring: the store that the settings name is opened, and made only where that is wanted."""

from pathlib import Path

import pytest

from ostler.app.bootstrap import connect
from ostler.app.settings import Settings
from ostler.kernel.errors import NotFound, SandboxUnavailable


async def test_looking_makes_no_store_and_no_folder(tmp_path: Path) -> None:
    settings = Settings(store=f"sqlite:///{tmp_path}/kept/ostler.db", folder=tmp_path)
    with pytest.raises(NotFound, match="no store"):
        await connect(settings, create=False)
    assert list(tmp_path.iterdir()) == []
    await (await connect(settings)).close()
    await (await connect(settings, create=False)).close()


async def test_whether_commands_can_run_is_asked_before_they_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    parts = await connect(Settings(store="memory:", folder=tmp_path), create=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    for sandbox in ("bwrap", "none"):
        with pytest.raises(SandboxUnavailable) as caught:
            await parts.shell.ready(sandbox)
        assert "Install it" in caught.value.hint
    await parts.close()
