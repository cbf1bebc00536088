"""Attacks on the real sandbox, and what bounds what runs in it."""

import asyncio
import os
import secrets
import shutil
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from ostler.adapters.sandbox import probe, remedy
from ostler.adapters.sandbox.bwrap import Bubblewrap
from ostler.adapters.sandbox.process import Limits
from ostler.adapters.sandbox.user import UID
from ostler.adapters.sandbox.walls import ALL_WALLS
from ostler.kernel.errors import SandboxUnavailable, UsageError
from tests.adapters.sandbox.processes import processes_with, until

real = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")

MB = 1024**2

REACHABLE = ALL_WALLS - {"user"}
"""For a program in a folder of the test's: nobody but root gets there."""


@pytest.fixture(scope="module")
def sandbox():
    return Bubblewrap()


@pytest.fixture
def workspace(tmp_path):
    """A workspace beside a folder that is none of its business."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.txt").write_text("the secret\n")
    (tmp_path / "workspace").mkdir()
    return tmp_path / "workspace"


async def run(sandbox, workspace, *argv, wall_s=60.0, keep_bytes=64 * 1024, **more):
    return await sandbox.run(argv, workspace=str(workspace), wall_s=wall_s, keep_bytes=keep_bytes, **more)


async def python(sandbox, workspace, program, *argv, **more):
    return await run(sandbox, workspace, "python3", "-c", program, *map(str, argv), **more)


# What a command can do


@real
async def test_a_command_works_in_its_workspace_at_its_own_path(sandbox, workspace):
    (workspace / "inner").mkdir()
    done = await run(sandbox, workspace, "sh", "-c", "pwd; cat; echo made > made.txt", cwd="inner", stdin=b"given\n")
    assert (done.exit, done.output, done.ended_by) == (0, f"{workspace}/inner\ngiven\n", None)
    assert (workspace / "inner" / "made.txt").read_text() == "made\n"


@real
async def test_the_running_python_works_inside(sandbox, workspace):
    done = await python(sandbox, workspace, "import sys, msgspec; print(sys.prefix, sys.version_info[:3])")
    assert done.output == f"{sys.prefix} {sys.version_info[:3]}\n"


@real
@pytest.mark.parametrize(("script", "code"), [("exit 7", 7), ("kill -9 $$", 137), ("no-such-program", 127)])
async def test_the_exit_code_is_that_of_the_command(sandbox, workspace, script, code):
    assert (await run(sandbox, workspace, "sh", "-c", script)).exit == code


@real
async def test_a_program_that_is_not_there_is_said_to_be_missing(sandbox, workspace):
    done = await run(sandbox, workspace, "no-such-program")
    assert done.exit == 127
    assert "no-such-program" in done.output


@real
@pytest.mark.for_root
async def test_what_a_command_of_roots_makes_belongs_to_the_owner_of_the_workspace(sandbox, workspace):
    os.chown(workspace, 1234, 5678)
    script = "id -u; echo made > made.txt; mkdir folder; echo made > folder/made.txt; stat -c %u:%g made.txt"
    done = await run(sandbox, workspace, "sh", "-c", script)
    assert done.output == "1000\n1000:1000\n"
    for path in ("made.txt", "folder", "folder/made.txt"):
        status = (workspace / path).stat()
        assert (status.st_uid, status.st_gid) == (1234, 5678)


@real
@pytest.mark.for_root
async def test_a_command_of_roots_is_not_root_even_seen_from_outside(sandbox, workspace):
    word = f"{100_000 + secrets.randbelow(100_000)}.{os.getpid()}"
    call = asyncio.create_task(run(sandbox, workspace, "sleep", word))
    status = "/proc/{}/status"

    def owners():
        with suppress(OSError):
            lines = [Path(status.format(pid)).read_text().splitlines() for pid in processes_with(word)]
            names = [next(line for line in found if line.startswith("Name:")).split()[1] for found in lines]
            if "sleep" in names:
                return next(line for line in lines[names.index("sleep")] if line.startswith("Uid:")).split()[1:]
        return None

    await until(owners)
    assert owners() == [str(UID)] * 4
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


@real
@pytest.mark.for_root
async def test_files_of_others_in_the_workspace_keep_their_owners_and_their_modes(sandbox, workspace):
    for name, mode in (("open.txt", 0o666), ("closed.txt", 0o644)):
        (workspace / name).write_text("")
        (workspace / name).chmod(mode)
        os.chown(workspace / name, 4321, 4321)
    done = await run(sandbox, workspace, "sh", "-c", "echo x >> open.txt; echo $?; echo x >> closed.txt; echo $?")
    assert [line for line in done.output.splitlines() if len(line) == 1] == ["0", "2"]
    assert (workspace / "open.txt").stat().st_uid == 4321


@real
@pytest.mark.for_root
async def test_a_workspace_that_was_replaced_is_not_mistaken_for_the_old_one(sandbox, workspace):
    await run(sandbox, workspace, "touch", "old")
    workspace.rename(workspace.parent / "moved")
    workspace.mkdir()
    assert (await run(sandbox, workspace, "ls")).output == ""
    assert (await run(sandbox, workspace.parent / "moved", "ls")).output == "old\n"


# What it cannot do


@real
async def test_the_probe_attacks_once_and_names_what_held(sandbox, monkeypatch):
    holding = await sandbox.probe()
    assert set(holding.holds) >= {"network", "write outside", "read outside", "environment", "kernel settings"}
    assert holding.fails == ()
    monkeypatch.setattr(probe, "ATTACKS", "raise SystemExit('attacked again')")
    assert await sandbox.probe() == holding


@real
@pytest.mark.parametrize("path", ["../outside/secret.txt", "{outside}/secret.txt", "link", "folder/secret.txt"])
async def test_no_path_leads_outside(sandbox, workspace, path):
    outside = workspace.parent / "outside"
    (workspace / "link").symlink_to(outside / "secret.txt")
    (workspace / "folder").symlink_to("../outside")
    path = path.format(outside=outside)
    assert (await run(sandbox, workspace, "cat", path)).exit != 0
    assert (await run(sandbox, workspace, "sh", "-c", 'echo x > "$0"', path)).exit != 0
    assert (outside / "secret.txt").read_text() == "the secret\n"


@real
async def test_a_hard_link_out_of_the_workspace_cannot_be_made(sandbox, workspace):
    done = await run(sandbox, workspace, "ln", "/etc/passwd", "link")
    assert done.exit != 0
    assert os.listdir(workspace) == []


@real
async def test_only_the_workspace_and_tmp_can_be_written(sandbox, workspace):
    attempt = """
import glob, sys
for folder in ("", *glob.glob("/*"), *glob.glob("/*/*"), sys.argv[1], sys.prefix, sys.base_prefix):
    try:
        open(folder + "/try-it", "w").close()
        print(folder)
    except OSError:
        pass
"""
    done = await python(sandbox, workspace, attempt, workspace)
    written = {folder for folder in done.output.split() if not folder.startswith("/tmp/")}
    assert written - {str(workspace)} == {"/tmp", "/dev/shm"}
    assert (workspace / "try-it").exists()
    assert not Path("/tmp/try-it").exists()


@real
async def test_home_and_the_rest_of_the_machine_are_not_there(sandbox, workspace):
    secret = workspace.parent / "outside"
    kept = sorted(
        {Path(path).parts[1] for path in (str(workspace), sys.prefix, sys.base_prefix)}
        | {"usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "etc", "proc", "dev", "tmp"}
    )
    done = await run(sandbox, workspace, "ls", "/")
    assert set(done.output.split()) <= set(kept)
    assert (await run(sandbox, workspace, "ls", str(secret))).exit != 0
    listing = await run(sandbox, workspace, "ls", "-A", str(Path.home()))
    assert ".ssh" not in listing.output
    assert ".bashrc" not in listing.output
    assert "/etc/shadow" not in (await run(sandbox, workspace, "find", "/etc", "-maxdepth", "1")).output


@real
async def test_the_kernels_settings_cannot_be_changed(sandbox, workspace):
    attempt = """
import os
for folder, _, names in os.walk("/proc/sys"):
    for name in names:
        try:
            os.close(os.open(os.path.join(folder, name), os.O_WRONLY))
        except OSError:
            continue
        print(folder, name)
"""
    assert (await python(sandbox, workspace, attempt)).output == ""


@real
async def test_no_secret_of_the_environment_is_inside(sandbox, workspace, monkeypatch):
    monkeypatch.setenv("VENDOR_API_KEY", "sk-this-is-secret")
    script = "env; for file in /proc/*/environ; do tr '\\0' '\\n' < $file; done; cat /proc/*/cmdline"
    done = await run(sandbox, workspace, "sh", "-c", script)
    assert "HOME=/tmp" in done.output
    assert "VENDOR_API_KEY" not in done.output
    assert "sk-this" not in done.output


@real
async def test_a_command_gets_what_it_is_given_and_nothing_given_replaces_what_all_get(sandbox, workspace):
    given = {"GIT_AUTHOR_NAME": "Ada L. =\n", "HOME": "/root"}
    done = await python(
        sandbox,
        workspace,
        "import os; print(repr(os.environ['GIT_AUTHOR_NAME']), os.environ['HOME'])",
        environment=given,
    )
    assert done.output == "'Ada L. =\\n' /tmp\n"


@real
async def test_there_is_no_network_and_no_way_to_a_socket_of_the_host(sandbox, workspace):
    attempt = """
import socket, sys
for name, family, address in (
    ("tcp", socket.AF_INET, ("127.0.0.1", int(sys.argv[1]))),
    ("far", socket.AF_INET, ("192.0.2.1", 80)),
    ("abstract", socket.AF_UNIX, "\\0" + sys.argv[2]),
    ("path", socket.AF_UNIX, sys.argv[3]),
):
    client = socket.socket(family)
    client.settimeout(5)
    try:
        client.connect(address)
        print(name, "connected")
    except OSError:
        print(name, "refused")
try:
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("192.0.2.1", 53))
    print("udp sent")
except OSError:
    print("udp refused")
try:
    print(socket.getaddrinfo("example.org", 80))
except OSError:
    print("dns refused")
"""
    path = workspace.parent / "outside" / "s"
    name = f"ostler-test-{os.getpid()}"
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind(f"\0{name}")
        abstract.listen()
        with socket.socket(socket.AF_UNIX) as named:
            folder = os.open(path.parent, os.O_RDONLY)
            named.bind(f"/proc/self/fd/{folder}/s")  # a socket's path is short
            os.close(folder)
            named.listen()
            done = await python(sandbox, workspace, attempt, tcp.getsockname()[1], name, path)
    assert done.output.split("\n")[:-1] == [
        *("tcp refused", "far refused", "abstract refused", "path refused", "udp refused", "dns refused")
    ]


@real
async def test_other_processes_cannot_be_seen(sandbox, workspace):
    done = await run(sandbox, workspace, "sh", "-c", "ls -d /proc/[0-9]* | wc -l; kill -0 -1 || echo alone")
    count, *_ = done.output.split()
    assert int(count) < 10


@real
async def test_no_new_namespaces_and_no_capabilities(sandbox, workspace):
    assert (await run(sandbox, workspace, "unshare", "--user", "true")).exit != 0
    done = await run(sandbox, workspace, "grep", "-E", "CapEff|CapBnd|NoNewPrivs", "/proc/self/status")
    assert done.output.split() == ["CapEff:", "0" * 16, "CapBnd:", "0" * 16, "NoNewPrivs:", "1"]


@real
async def test_a_python_inside_the_workspace_is_not_changed_by_what_runs_there(tmp_path, monkeypatch):
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "venv"))
    sandbox = Bubblewrap()
    assert (await run(sandbox, tmp_path, "sh", "-c", "echo x > venv/bin/python")).exit != 0
    assert (await run(sandbox, tmp_path, "sh", "-c", "echo x > other")).exit == 0


# Bounds


@real
async def test_a_fork_bomb_is_bounded(workspace):
    sandbox = Bubblewrap(Limits(processes=40))
    bomb = """
import os, signal
count = 0
try:
    while count < 100:
        if os.fork() == 0:
            signal.pause()
        count += 1
except OSError:
    pass
print(count)
"""
    done = await python(sandbox, workspace, bomb)
    assert 10 < int(done.output) < 40


@real
@pytest.mark.parametrize(
    "program",
    ["x = bytearray(200_000_000)", "f = open('/dev/shm/x', 'wb'); [f.write(bytes(1_000_000)) for _ in range(200)]"],
)
async def test_memory_is_bounded(workspace, program):
    sandbox = Bubblewrap(Limits(memory_bytes=100 * MB, scratch_bytes=50 * MB))
    # said in a way that no traceback can, which may show the line of the program
    done = await python(sandbox, workspace, f"print('be' + 'gan', flush=True); {program}; print('un' + 'bounded')")
    assert done.output.startswith("began")
    assert "unbounded" not in done.output


@real
async def test_memory_of_many_processes_together_is_bounded_where_that_is_claimed(workspace):
    sandbox = Bubblewrap(Limits(memory_bytes=150 * MB))
    program = """
import os, signal
signal.signal(signal.SIGCHLD, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
ready, say = os.pipe()
for _ in range(4):
    if os.fork() == 0:
        x = os.urandom(1000) * 60_000
        os.write(say, b"x")
        signal.pause()
for _ in range(4):
    os.read(ready, 1)
print("all lived")
"""
    done = await python(sandbox, workspace, program)
    if "cgroup" in sandbox.limits_held()["memory"]:
        assert (done.exit, done.ended_by) == (137, "memory")
    else:
        assert done.output == "all lived\n"


@real
async def test_processor_time_is_bounded(workspace):
    done = await python(Bubblewrap(Limits(cpu_s=1)), workspace, "while True: pass")
    assert (done.exit, done.ended_by) == (152, "cpu")


@real
async def test_the_size_of_files_is_bounded(workspace):
    done = await python(Bubblewrap(Limits(file_bytes=MB)), workspace, "open('x', 'wb').write(bytes(2_000_000))")
    assert done.exit != 0
    assert (workspace / "x").stat().st_size <= MB


@real
async def test_a_flood_of_output_is_bounded_and_both_ends_are_kept(sandbox, workspace):
    flood = "import sys; print('first'); [sys.stdout.write('x' * 100_000) for _ in range(300)]; print('last')"
    done = await python(sandbox, workspace, flood, keep_bytes=10_000)
    assert len(done.output) < 10_100
    assert done.output.startswith("first\n")
    assert done.output.endswith("last\n")
    assert done.dropped_bytes == 30_000_000 + len("first\nlast\n") - 10_000


GRANDCHILD = "trap '' TERM INT HUP; : {word}; while :; do read line < fifo; done"
PARENT = 'mkfifo fifo; setsid sh -c "$0" >/dev/null 2>&1 & {then}'


@real
async def test_when_time_is_up_everything_is_killed(sandbox, workspace):
    word = f"ostler-wall-{os.getpid()}"
    script = PARENT.format(then="echo started; while :; do wait; done")
    done = await run(sandbox, workspace, "sh", "-c", script, GRANDCHILD.format(word=word), wall_s=1.0)
    assert (done.ended_by, done.output) == ("wall", "started\n")
    assert processes_with(word) == []


@real
async def test_when_a_command_ends_nothing_that_it_started_lives_on(sandbox, workspace):
    word = f"ostler-left-{os.getpid()}"
    script = PARENT.format(then="echo done")
    done = await run(sandbox, workspace, "sh", "-c", script, GRANDCHILD.format(word=word))
    assert (done.exit, done.output, done.ended_by) == (0, "done\n", None)
    assert processes_with(word) == []


@real
async def test_cancelling_at_once_leaves_nothing(sandbox, workspace):
    await sandbox.probe()
    word = f"ostler-cancel-{os.getpid()}"
    for turns in range(6):
        call = asyncio.create_task(run(sandbox, workspace, "sh", "-c", f": {word}; sleep 1000 & wait"))
        for _ in range(turns):
            await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert processes_with(word) == []


@real
async def test_a_command_dies_with_the_process_that_ran_it(workspace):
    word = f"ostler-die-{os.getpid()}"
    program = """
import asyncio, sys
from ostler.adapters.sandbox.bwrap import Bubblewrap
asyncio.run(Bubblewrap().run(["sh", "-c", sys.argv[2]], workspace=sys.argv[1], wall_s=600, keep_bytes=1000))
"""
    script = f": {word}; echo > begun; sleep 1000 & wait"
    worker = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-c", program, str(workspace), script], env={**os.environ, "PYTHONPATH": ":".join(sys.path)}
    )
    try:
        await until(lambda: (workspace / "begun").exists() or worker.poll() is not None)
        worker.kill()
        worker.wait()
        await until(lambda: not processes_with(word))
        await Bubblewrap().probe()
        async with asyncio.timeout(60):  # what dies is in its group for a moment longer
            while left := [*Path("/sys/fs/cgroup").glob(f"**/ostler-{worker.pid}-*")]:
                await Bubblewrap().probe()
    finally:
        worker.kill()
        worker.wait()
    assert left == []


@real
async def test_no_control_group_and_no_descriptor_is_left_behind(sandbox, workspace):
    await run(sandbox, workspace, "true")  # as root this opens a way to the workspace, which is kept
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        await run(sandbox, workspace, "true")
    assert len(os.listdir("/proc/self/fd")) == before
    assert [*Path("/sys/fs/cgroup").glob(f"**/ostler-{os.getpid()}-*")] == []


# Refusing


@pytest.mark.parametrize(
    ("wall", "attack"),
    [
        ("network", "network"),
        ("files", "read outside"),
        ("descriptors", "descriptors"),
        ("environment", "environment"),
        ("calls: rings", "rings"),
        ("calls: keyrings", "keyrings"),
        ("calls: terminals", "typing"),
        ("calls: sockets", "machine sockets"),
        ("memory", "memory"),
        ("count", "processes"),
        ("file size", "file size"),
    ],
)
@real
async def test_with_a_wall_missing_the_probe_finds_out_and_nothing_runs(workspace, monkeypatch, wall, attack):
    monkeypatch.setenv("VENDOR_API_KEY", "sk-this-is-secret")
    missing = {wall, "user"} if wall == "files" else {wall}
    inheritable = os.dup(2)
    os.set_inheritable(inheritable, True)
    try:
        with pytest.raises(SandboxUnavailable, match=f"{attack}: ") as caught:
            await run(Bubblewrap(walls=ALL_WALLS - missing), workspace, "touch", "ran")
    finally:
        os.close(inheritable)
    assert attack in caught.value.facts["holding"]["fails"]
    assert caught.value.hint
    assert "sk-this" not in caught.value.message
    assert os.listdir(workspace) == []


async def test_without_bubblewrap_nothing_runs_and_the_error_says_what_to_do(workspace):
    with pytest.raises(SandboxUnavailable) as caught:
        await run(Bubblewrap(program="no-such-bwrap"), workspace, "touch", "ran")
    assert "apt-get install bubblewrap" in caught.value.hint
    assert "--sandbox=none" in caught.value.hint
    assert os.listdir(workspace) == []


async def test_a_program_that_only_pretends_to_isolate_is_found_out(workspace, tmp_path):
    pretender = tmp_path / "bwrap"
    pretender.write_text('#!/bin/sh\nwhile [ $# -gt 0 ] && [ "$1" != -- ]; do shift; done\nshift; exec "$@"\n')
    pretender.chmod(0o755)
    with pytest.raises(SandboxUnavailable, match="network: the host answered") as caught:
        await run(Bubblewrap(program=str(pretender), walls=REACHABLE), workspace, "touch", "ran")
    assert "read outside" in caught.value.message
    assert os.listdir(workspace) == []


async def test_a_bubblewrap_that_cannot_start_says_why(workspace, tmp_path):
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2; exit 1\n")
    broken.chmod(0o755)
    with pytest.raises(SandboxUnavailable, match="No permissions to create new namespace"):
        await run(Bubblewrap(program=str(broken), walls=REACHABLE), workspace, "true")


async def test_a_kernel_that_forbids_namespaces_is_named_with_its_setting(workspace, tmp_path, monkeypatch):
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2; exit 1\n")
    broken.chmod(0o755)
    setting = tmp_path / "kernel" / "apparmor_restrict_unprivileged_userns"
    setting.parent.mkdir()
    monkeypatch.setattr(remedy, "_SETTINGS", tmp_path)
    for value, is_named in (("1\n", True), ("0\n", False)):
        setting.write_text(value)
        with pytest.raises(SandboxUnavailable, match="uid map") as caught:
            await Bubblewrap(program=str(broken), walls=REACHABLE).probe()
        assert ("sysctl -w kernel.apparmor_restrict_unprivileged_userns=0" in caught.value.hint) is is_named
        assert "--sandbox=none" in caught.value.hint


@real
@pytest.mark.parametrize("folder", ["/", "/usr", "/etc"])
async def test_the_system_itself_is_no_workspace(sandbox, folder):
    with pytest.raises(UsageError, match="holds the system itself"):
        await run(sandbox, folder, "true")
