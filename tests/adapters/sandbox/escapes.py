"""Ways out of a sandbox: what is tried inside, and which walls have to go before it succeeds.

Nothing but the standard library is used: this file itself is what runs inside (`escapes.py NAME TARGETS`).
"""

import ctypes
import dataclasses
import fcntl
import json
import os
import platform
import pty
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable

libc = ctypes.CDLL(None, use_errno=True)
COLUMN = 0 if platform.machine() == "x86_64" else 1


@dataclasses.dataclass(frozen=True)
class Escape:
    """A function that is given what there is to reach, and returns whether it got there.

    `walls` are all those of which each alone stops it; none, where what stops it is nothing of ours that could be taken
    away: `why` says what. `by_root`: without its walls it succeeds only where Ostler runs as root. `is_seen_outside`:
    not the command knows whether it succeeded, but who looks afterwards. `refused` is what the proxy says of it.
    """

    run: Callable[[dict[str, object]], object]
    walls: tuple[str, ...] = ()
    why: str = ""
    by_root: bool = False
    is_seen_outside: bool = False
    hosts: tuple[str, ...] = ()
    refused: str = ""
    limits: dict[str, int] = dataclasses.field(default_factory=dict)


ESCAPES: dict[str, Escape] = {}


def stopped_by(*walls, **more):
    def known(function):
        ESCAPES[function.__name__] = Escape(function, walls, **more)
        return function

    return known


TREE = ("files", "user")
NAMESPACES = ("namespaces", "calls: namespaces")
NO_CAPABILITY = "bubblewrap leaves a user other than root no capability, told to or not"


def call(numbers, *arguments):
    number = numbers if isinstance(numbers, int) else numbers[COLUMN]
    result = libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def unshare(flags):
    call((272, 97), ctypes.c_ulong(flags))
    return True


def reads(path):
    with open(path) as file:
        return "the secret" in file.read()


def opens(path, flags):
    os.close(os.open(path, flags))
    return True


def connects(family, address):
    with socket.socket(family) as client:
        client.settimeout(10)
        client.connect(address)
        return True


def makes(family, kind, protocol=0):
    socket.socket(family, kind, protocol).close()
    return True


def asks_proxy(head):
    with socket.create_connection(("127.0.0.1", 3128), timeout=10) as client:
        client.sendall(head.encode() + b"\r\n\r\n")
        return b" 200" in client.recv(4096).split(b"\r\n")[0]


# Files


@stopped_by(*TREE)
def a_path_with_two_dots(target):
    return reads("../outside/secret.txt")


@stopped_by(*TREE)
def an_absolute_path(target):
    return reads(target["secret"])


@stopped_by(*TREE)
def a_symbolic_link_out(target):
    return reads("link")


@stopped_by(*TREE)
def a_symbolic_link_made_inside(target):
    os.symlink(target["secret"], "made")
    return reads("made")


@stopped_by(*TREE)
def a_hard_link(target):
    os.link(target["secret"], "hard")
    return reads("hard")


@stopped_by(*TREE)
def writing_outside(target):
    return opens(target["secret"] + ".new", os.O_WRONLY | os.O_CREAT)


@stopped_by(*TREE)
def the_root_of_a_process(target):
    return reads("/proc/self/root" + target["secret"])


@stopped_by(*TREE)
def another_workspace(target):
    return reads(target["other"])


@stopped_by(*TREE, by_root=True)
def the_passwords_of_the_machine(target):
    return opens("/etc/shadow", os.O_RDONLY)


@stopped_by(*TREE, by_root=True)
def the_log_of_the_kernel(target):
    return opens("/dev/kmsg", os.O_WRONLY)


@stopped_by(why="devices answer to the control groups of the machine, too")
def a_disk(target):
    return opens(target["disk"], os.O_RDONLY)


@stopped_by("read-only", "user", by_root=True)
def the_programs_of_the_system(target):
    path = "/usr/ostler-escape"
    opens(path, os.O_WRONLY | os.O_CREAT)
    os.unlink(path)
    return True


@stopped_by("read-only", "user", by_root=True)
def the_settings_of_the_kernel(target):
    return opens("/proc/sys/kernel/core_pattern", os.O_WRONLY)


@stopped_by("calls: file handles")
def a_file_by_its_handle(target):
    handle = ctypes.create_string_buffer(136)
    ctypes.c_uint.from_buffer(handle).value = 128
    call((303, 264), -100, b".", handle, ctypes.byref(ctypes.c_int()), 0)
    return True


# Network


@stopped_by("network")
def a_tcp_connection(target):
    return connects(socket.AF_INET, ("127.0.0.1", target["tcp"]))


@stopped_by("network")
def a_tcp_connection_by_ipv6(target):
    return connects(socket.AF_INET6, ("::1", target["tcp6"]))


@stopped_by("network", is_seen_outside=True)
def a_datagram(target):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(b"the secret", ("127.0.0.1", target["udp"]))


@stopped_by("network")
def a_question_to_a_name_server(target):
    question = b"\0\1\1\0\0\1\0\0\0\0\0\0\6secret\7example\0\0\1\0\1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(10)
        client.connect(("127.0.0.1", target["dns"]))
        client.send(question)
        return client.recv(512)


@stopped_by("network")
def an_abstract_socket(target):
    return connects(socket.AF_UNIX, "\0" + target["abstract"])


@stopped_by(*TREE)
def a_socket_with_a_path(target):
    return connects(socket.AF_UNIX, target["path"])


@stopped_by("calls: sockets")
def a_socket_to_the_hypervisor(target):
    return makes(40, socket.SOCK_STREAM)


@stopped_by("calls: sockets")
def a_netlink_socket_that_does_not_list_interfaces(target):
    return makes(socket.AF_NETLINK, socket.SOCK_RAW, 15)


@stopped_by(why=NO_CAPABILITY)
def a_raw_socket(target):
    return makes(socket.AF_INET, socket.SOCK_RAW, 1)


@stopped_by(why=NO_CAPABILITY)
def a_packet_socket(target):
    return makes(17, socket.SOCK_RAW)


# Past the proxy

LITERAL = {"hosts": ("example.com",), "refused": "an address was named instead of a host"}
UNLISTED = {"hosts": ("example.com",), "refused": "the host is not in the list of allowed hosts"}


@stopped_by("network", hosts=("example.com",))
def a_connection_past_the_proxy(target):
    return connects(socket.AF_INET, ("127.0.0.1", target["tcp"]))


@stopped_by("egress: literals", "egress: names", "egress: public", **LITERAL)
def an_address_instead_of_a_host(target):
    return asks_proxy(f"CONNECT 127.0.0.1:{target['tcp']} HTTP/1.1")


@stopped_by("egress: literals", "egress: names", "egress: public", **LITERAL)
def an_address_that_looks_like_none(target):
    return asks_proxy(f"CONNECT 0x7f.1:{target['tcp']} HTTP/1.1")


@stopped_by("egress: public", hosts=("localhost:{tcp}",), refused="the host has an address that is not public")
def a_host_that_leads_inside(target):
    return asks_proxy(f"CONNECT localhost:{target['tcp']} HTTP/1.1")


@stopped_by("egress: names", "egress: public", **UNLISTED)
def a_host_that_nobody_allowed(target):
    return asks_proxy(f"CONNECT localhost:{target['tcp']} HTTP/1.1")


@stopped_by("egress: names", "egress: public", **UNLISTED)
def plain_http_to_a_host_that_nobody_allowed(target):
    return asks_proxy(f"GET http://localhost:{target['http']}/ HTTP/1.1\r\nHost: example.com")


@stopped_by(
    *("egress: ports", "egress: public"),
    hosts=("localhost",),
    refused="the port is not in the list of allowed hosts",
)
def a_port_that_nobody_allowed(target):
    return asks_proxy(f"CONNECT localhost:{target['tcp']} HTTP/1.1")


# Other processes


@stopped_by("processes")
def seeing_who_runs_ostler(target):
    return os.path.exists(f"/proc/{target['pid']}/cmdline")


@stopped_by("processes", "user")
def a_signal_to_who_runs_ostler(target):
    os.kill(target["pid"], 0)
    return True


@stopped_by("processes", is_seen_outside=True)
def a_process_that_goes_on(target):
    ready, tell = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for descriptor in range(3):
                os.close(descriptor)
            os.execvp("sleep", ["sleep", target["word"]])  # which closes the other end of the pipe
        os._exit(0)
    os.close(tell)
    os.read(ready, 1)


@stopped_by("calls: other processes")
def tracing_another_process(target):
    child = os.fork()
    if child == 0:
        signal.pause()
    call((101, 117), 16, child, None, None)
    return True


@stopped_by("calls: other processes")
def the_memory_of_a_process(target):
    text = ctypes.create_string_buffer(b"x" * 8)
    one, piece = ctypes.c_ulong(1), (ctypes.c_size_t * 2)(ctypes.addressof(text), 8)
    return call((310, 270), os.getpid(), piece, one, piece, one, ctypes.c_ulong(0)) == 8


@stopped_by("ipc")
def shared_memory_of_the_machine(target):
    return libc.shmget(target["segment"], 0, 0) >= 0


@stopped_by("descriptors")
def an_inherited_descriptor(target):
    return b"the secret" in os.pread(target["descriptor"], 100, 0)


@stopped_by("environment")
def the_environment(target):
    with open("/proc/1/environ", "rb") as file:
        return "OSTLER_ESCAPE" in os.environ or b"OSTLER_ESCAPE" in file.read()


# Privileges


@stopped_by(why="the kernel honours none after no_new_privs, which bubblewrap always sets")
def a_setuid_program(target):
    return subprocess.check_output(["./setuid", "-u"], text=True).strip() != str(os.getuid())


@stopped_by("calls: setuid files")
def a_program_that_makes_others_root(target):
    descriptor = os.open("made", os.O_WRONLY | os.O_CREAT, 0o700)
    os.fchmod(descriptor, 0o4755)
    return os.fstat(descriptor).st_mode & 0o4000


@stopped_by("calls: setuid files")
def a_program_that_is_born_to_make_others_root(target):
    descriptor = os.open("made", os.O_WRONLY | os.O_CREAT, 0o4755)
    return os.fstat(descriptor).st_mode & 0o4000


@stopped_by(*NAMESPACES)
def a_user_namespace(target):
    return unshare(0x10000000)


@stopped_by(*NAMESPACES)
def a_user_namespace_by_clone(target):
    child = call((56, 220), ctypes.c_ulong(0x10000000 | signal.SIGCHLD), None, None, None, None)
    if child == 0:
        os._exit(0)
    return True


@stopped_by(*NAMESPACES)
def a_user_namespace_by_clone3(target):
    arguments = (ctypes.c_uint64 * 8)(0x10000000, 0, 0, 0, signal.SIGCHLD)
    if call(435, arguments, ctypes.c_size_t(64)) == 0:
        os._exit(0)
    return True


@stopped_by(*NAMESPACES, "calls: mounts")
def a_mount(target):
    unshare(0x10020000)
    return libc.mount(b"tmpfs", b"/tmp", b"tmpfs", ctypes.c_ulong(0), None) == 0


@stopped_by(*NAMESPACES, "calls: mounts")
def another_root(target):
    unshare(0x10000000)
    os.chroot("/tmp")
    return True


@stopped_by(why=NO_CAPABILITY)
def a_module_for_the_kernel(target):
    call((175, 105), b"", ctypes.c_ulong(0), b"")
    return True


# The less guarded doors of the kernel


@stopped_by("calls: rings")
def rings(target):
    return call(425, 4, ctypes.create_string_buffer(120)) >= 0


@stopped_by("calls: keyrings")
def a_keyring(target):
    return call((248, 217), b"user", b"name", b"payload", ctypes.c_size_t(7), -2) > 0


@stopped_by(why="kernels are set to keep it from everybody but root (unprivileged_bpf_disabled)")
def a_program_for_the_kernel(target):
    return call((321, 280), 0, (ctypes.c_uint32 * 5)(2, 4, 4, 1, 0), 20) >= 0


@stopped_by("calls: kernel programs")
def page_faults_of_its_own(target):
    return call((323, 282), 1) >= 0


@stopped_by("calls: terminals")
def typing_into_a_terminal(target):
    child, ours = pty.fork()
    if child == 0:
        try:
            fcntl.ioctl(0, 0x5412, b"x")
        except OSError:
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    os.close(ours)
    return status == 0


@stopped_by("calls: personality")
def a_process_without_random_addresses(target):
    return libc.personality(ctypes.c_ulong(0x0040000)) >= 0


# More than its share


@stopped_by("count", "control group", limits={"processes": 40})
def a_fork_bomb(target):
    for _ in range(60):
        if os.fork() == 0:
            signal.pause()
    return True


@stopped_by("memory", "control group", limits={"memory_bytes": 100 * 1024**2})
def memory(target):
    return bytearray(200_000_000)


@stopped_by("cpu", limits={"cpu_s": 1})
def processor_time(target):
    while time.process_time() < 2.5:
        pass
    return True


@stopped_by("file size", limits={"file_bytes": 1_000_000})
def a_large_file(target):
    with open("large", "wb") as file:
        return file.truncate(2_000_000)


@stopped_by("scratch", limits={"scratch_bytes": 20_000_000})
def a_full_scratch_folder(target):
    with open("/tmp/large", "wb") as file:
        for _ in range(40):
            file.write(bytes(1_000_000))
    return True


@stopped_by("disk", limits={"disk_bytes": 16_000_000})
def a_full_disk(target):
    with open("large", "wb") as file:
        for _ in range(256):
            file.write(bytes(1_000_000))
    time.sleep(3)  # the disk is looked at a few times a second
    return True


def main():
    try:
        escaped = ESCAPES[sys.argv[1]].run(json.loads(sys.argv[2]))
    except (OSError, MemoryError, subprocess.CalledProcessError) as error:
        sys.stdout.write(f"{error}\n")
        escaped = False
    sys.stdout.write("escaped\n" if escaped else "stopped\n")


if __name__ == "__main__":
    main()
