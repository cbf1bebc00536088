"""The proxy: whom it lets through, and what is said of it. Real sockets, and a real sandbox at the end."""

import asyncio
import shutil
import socket
from contextlib import asynccontextmanager

import pytest

from ostler.adapters.sandbox.bwrap import Bubblewrap
from ostler.adapters.sandbox.egress import RULES, Host, Proxy, Refused, is_literal, is_public, read_hosts
from ostler.adapters.sandbox.process import Egress
from ostler.adapters.sandbox.walls import ALL_WALLS
from ostler.kernel.errors import ConfigurationError

PUBLIC, PRIVATE = "93.184.215.14", "10.0.0.7"


def resolving(**addresses):
    async def resolve(host, port):
        if host not in addresses:
            raise socket.gaierror
        return addresses[host].split()

    return resolve


@pytest.mark.parametrize(
    ("entry", "host"),
    [
        ("pypi.org", Host("pypi.org", (80, 443))),
        ("PyPI.org.", Host("pypi.org", (80, 443))),
        ("*.example.com", Host("*.example.com", (80, 443))),
        ("example.com:8443", Host("example.com", (8443,))),
    ],
)
def test_an_entry_of_the_list_is_a_name_and_its_ports(entry, host):
    assert read_hosts([entry]) == (host,)


@pytest.mark.parametrize(
    "entry",
    [
        *("127.0.0.1", "[::1]", "::1", "0x7f.1", "2130706433", "*", "a.*.com", "https://pypi.org", "pypi.org/x", "a b"),
        *("", "pypi.org:", "pypi.org:0", "pypi.org:70000", "pypi.org:x", "-x.org", "x..org"),
    ],
)
def test_what_is_no_name_is_refused_in_the_list(entry):
    with pytest.raises(ConfigurationError, match="no host that commands may be let through to"):
        read_hosts([entry])


@pytest.mark.parametrize(
    ("host", "port", "refused"),
    [
        ("pypi.org", 443, None),
        ("PYPI.ORG.", 443, None),
        ("files.example.com", 443, None),
        ("a.b.example.com", 80, None),
        ("example.com", 443, "not in the list of allowed hosts"),
        ("notexample.com", 443, "not in the list of allowed hosts"),
        ("pypi.org.evil.org", 443, "not in the list of allowed hosts"),
        ("", 443, "not in the list of allowed hosts"),
        ("pypi.org", 22, "the port is not in the list"),
        ("git.org", 22, None),
        ("git.org", 443, "the port is not in the list"),
        ("10.0.0.7", 443, "an address was named"),
        ("::1", 443, "an address was named"),
        ("0x7f000001", 443, "an address was named"),
        ("inner.example.com", 443, "not public"),
        ("both.example.com", 443, "not public"),
        ("gone.example.com", 443, "has no address"),
    ],
)
async def test_only_public_addresses_of_listed_hosts_and_ports_are_let_through(host, port, refused):
    addresses = {"pypi.org": PUBLIC, "git.org": PUBLIC, "files.example.com": PUBLIC, "a.b.example.com": PUBLIC}
    addresses |= {"inner.example.com": PRIVATE, "both.example.com": f"{PUBLIC} {PRIVATE}"}
    proxy = Proxy(read_hosts(["pypi.org", "*.example.com", "git.org:22"]), resolve=resolving(**addresses))
    if refused is None:
        assert await proxy.check(host, port) == [PUBLIC]
    else:
        with pytest.raises(Refused, match=refused):
            await proxy.check(host, port)


@pytest.mark.parametrize(
    "address",
    [
        *(
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
        ),
        *("::1", "::", "fe80::1%2", "fc00::1", "::ffff:127.0.0.1", "::ffff:93.184.215.14", "64:ff9b::a00:7", "ff02::1"),
        *("2002:7f00:1::", "2001:0:53aa:64c::1"),
    ],
)
def test_addresses_inside_a_house_and_those_that_carry_others_are_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", [PUBLIC, "2606:2800:21f:cb07::1"])
def test_addresses_of_everybody_are_public(address):
    assert is_public(address)


@pytest.mark.parametrize(
    "name", ["1.2.3.4", "127.1", "0x7f000001", "017700000001", "2130706433", "[::1]", "fe80::1%lo"]
)
def test_addresses_are_known_in_all_their_spellings(name):
    assert is_literal(name)


# Over sockets


@asynccontextmanager
async def serving(answer, hosts, *rules):
    """A proxy without these rules before a server that remembers what it was told, both on this machine."""
    told = []

    async def serve(reader, writer):
        told.append(await reader.read(4096))
        writer.write(answer)
        await writer.drain()
        writer.close()

    async def resolve(host, port):
        return ["127.0.0.1"]

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    door = socket.create_server(("127.0.0.1", 0))
    allowed = read_hosts([host.format(port=port) for host in hosts])
    proxy = Proxy(allowed, rules=frozenset(RULES).difference(rules), resolve=resolve)
    await proxy.serve(door)
    try:
        yield proxy, door.getsockname()[1], port, told
    finally:
        await proxy.close()
        server.close()


async def ask(door, text):
    reader, writer = await asyncio.open_connection("127.0.0.1", door)
    writer.write(text.replace("\n", "\r\n").encode())
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    return answer.decode()


async def test_plain_http_is_handed_on_as_one_request_to_the_host_that_was_checked():
    async with serving(b"HTTP/1.1 200 OK\r\n\r\nhello", ["example.com:{port}"], "public") as (proxy, door, port, told):
        head = f"POST http://example.com:{port}/a?b=c HTTP/1.1\nHost: other.example\nProxy-Authorization: x\n"
        more = "X-Kept: 1\nContent-Length: 2\n\nhiGET / HTTP/1.1\nHost: smuggled\n\n"
        assert (await ask(door, head + more)).endswith("hello")
        head, _, body = told[0].decode().partition("\r\n\r\n")
        assert head.split("\r\n") == [
            "POST /a?b=c HTTP/1.1",
            f"Host: example.com:{port}",
            "Connection: close",
            "X-Kept: 1",
            "Content-Length: 2",
        ]
        assert body in ("", "hi")  # what comes after the body is never handed on
        assert proxy.seen() == (Egress("example.com", port),)


async def test_a_tunnel_carries_bytes_both_ways():
    async with serving(b"pong", ["example.com:{port}"], "public") as (_, door, port, told):
        answer = await ask(door, f"CONNECT example.com:{port} HTTP/1.1\n\nping")
        assert answer.endswith("\r\n\r\npong")
        assert told == [b"ping"]


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        ("CONNECT other.example:443 HTTP/1.1\n\n", "the host is not in the list of allowed hosts"),
        ("GET ftp://example.com/ HTTP/1.1\n\n", "only http can be asked for without CONNECT"),
        ("GET / HTTP/1.1\nHost: example.com\n\n", "only http can be asked for without CONNECT"),
        ("POST http://example.com/ HTTP/1.1\nTransfer-Encoding: chunked\n\n", "a body without a length"),
        ("POST http://example.com/ HTTP/1.1\nContent-Length: 1\nContent-Length: 2\n\n", "a body without a length"),
        ("POST http://example.com/ HTTP/1.1\nContent-Length: -1\n\n", "a body without a length"),
        ("CONNECT example.com:443 HTTP/1.1\n\n", "the host has an address that is not public"),
    ],
)
async def test_a_refusal_says_why_and_is_remembered(request_, reason):
    async with serving(b"", ["example.com"]) as (proxy, door, _, told):
        answer = await ask(door, request_)
        assert answer.startswith("HTTP/1.1 403 Forbidden")
        assert reason in answer
        assert told == []
        (place,) = proxy.seen()
        assert reason in place.refused


@pytest.mark.parametrize("garbage", ["", "x", "\n\n", "CONNECT\n\n", "CONNECT a:b:c x\n\n", "x" * 40_000 + "\n\n"])
async def test_what_is_no_request_gets_no_answer_and_breaks_nothing(garbage):
    async with serving(b"", ["example.com"]) as (_, door, _, told):
        with_answer = await ask(door, garbage) if len(garbage) < 20_000 else ""
        assert not with_answer.startswith("HTTP/1.1 200")
        assert told == []


async def test_what_is_remembered_is_bounded_and_counted():
    proxy = Proxy(())
    for number in range(300):
        proxy._note(f"host{number}.example", 443, "no")
    proxy._note("host1.example", 443, "no")
    seen = proxy.seen()
    assert len(seen) == 101
    assert seen[1].count == 2
    assert seen[-1] == Egress("(others)", 0, "refused", 200)


# In the sandbox

real = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")


@real
async def test_a_command_reaches_a_listed_host_and_no_other_by_its_ordinary_means(tmp_path):
    program = """
import sys, urllib.request
for address in sys.argv[1:]:
    try:
        print(urllib.request.urlopen(address, timeout=20).read().decode())
    except OSError as error:
        print(error)
"""

    async def resolve(host, port):
        return ["127.0.0.1"]

    async with serving(b"HTTP/1.1 200 OK\r\n\r\nhello", ["x.org"]) as (_, _, port, _):
        sandbox = Bubblewrap(walls=ALL_WALLS - {"egress: public"}, resolve=resolve)
        done = await sandbox.run(
            [
                "python3",
                "-c",
                program,
                f"http://example.com:{port}/",
                "http://other.example/",
                "https://other.example/",
            ],
            workspace=str(tmp_path),
            hosts=[f"example.com:{port}"],
            wall_s=60.0,
            keep_bytes=10_000,
        )
    assert done.output.splitlines()[0] == "hello"
    assert "403" in done.output.splitlines()[1]
    assert "403" in done.output.splitlines()[2]
    reason = "the host is not in the list of allowed hosts"
    assert done.egress == (
        Egress("example.com", port),
        Egress("other.example", 80, reason),
        Egress("other.example", 443, reason),
    )


@real
async def test_with_hosts_the_exit_code_is_that_of_the_command_and_a_missing_program_is_said(tmp_path):
    for argv, code in ((["sh", "-c", "exit 7"], 7), (["no-such-program"], 127)):
        done = await Bubblewrap().run(
            argv, workspace=str(tmp_path), hosts=["example.com"], wall_s=60.0, keep_bytes=1000
        )
        assert (done.exit, done.egress) == (code, ())
