"""The filter of system calls, as the kernel reads it: a small machine for classic BPF runs it on any architecture."""

import errno
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostler.adapters.sandbox.seccomp import CALLS, NEWEST, program

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
CASES = [
    (machine, name, number)
    for column, machine in enumerate(ARCHITECTURES)
    for group in CALLS.values()
    for name, numbers in group.items()
    if (number := numbers[column]) is not None
]
JUDGED = (
    *("clone", "clone3", "ioctl", "personality", "socket", "socketpair", "chmod", "fchmod", "fchmodat", "fchmodat2"),
    *("open", "openat", "openat2", "creat", "mknod", "mknodat"),
)


def run(code, number, *arguments, architecture):
    """What the kernel would do: 'allow', 'kill', or the name of an error."""
    data = struct.pack("=IIQ6Q", number, architecture, 0, *(*arguments, *[0] * 6)[:6])
    steps = list(struct.iter_unpack("=HBBI", code))
    at, loaded = 0, 0
    while True:
        operation, if_true, if_false, constant = steps[at]
        at += 1
        match operation:
            case 0x20:
                (loaded,) = struct.unpack_from("=I", data, constant)
            case 0x15:
                at += if_true if loaded == constant else if_false
            case 0x25:
                at += if_true if loaded > constant else if_false
            case 0x45:
                at += if_true if loaded & constant else if_false
            case 0x06:
                named = {0x7FFF0000: "allow", 0x80000000: "kill"}
                return named.get(constant) or errno.errorcode[constant & 0xFFFF]
            case _:
                raise AssertionError(operation)


def judge(number, *arguments, machine="x86_64", **how):
    return run(program(machine=machine, **how), number, *arguments, architecture=ARCHITECTURES[machine])


@pytest.mark.parametrize(("machine", "name", "number"), CASES)
def test_every_call_in_the_tables_is_judged_on_both_architectures(machine, name, number):
    forbidden = {
        "clone3": ((), "ENOSYS"),
        "clone": ((0x10000000 | 17,), "EPERM"),
        "ioctl": ((0, 0x5412), "EPERM"),
        "personality": ((0x40000,), "EPERM"),
        "socket": ((40,), "EAFNOSUPPORT"),
        "socketpair": ((40,), "EAFNOSUPPORT"),
        "openat2": ((), "ENOSYS"),
    }
    arguments, answer = forbidden.get(name, ((0, 0o4755, 0o4755, 0o4755), "EPERM"))
    if name in ("open", "openat"):
        arguments = (0, 0o100, 0o4100, 0o4755)
    assert judge(number, *arguments, machine=machine) == answer


@pytest.mark.parametrize(
    ("number", "arguments"),
    [
        (0, ()),  # read
        (56, (0x01200011,)),  # clone, as fork does it
        (56, (0x003D0F00,)),  # clone, as threads do it
        (16, (0, 0x5401)),  # ioctl TCGETS
        (135, (0xFFFFFFFF,)),  # personality, asking
        (135, (0,)),
        (41, (1,)),
        (41, (2,)),
        (41, (10,)),
        (41, (16, 3, 0)),  # netlink, to list interfaces
        (53, (1,)),
        (90, (0, 0o1777)),  # chmod
        (2, (0, 0, 0o6755)),  # open, where the mode means nothing
        (2, (0, 0o101, 0o644)),
        (257, (0, 0, 0o2000000, 0o6755)),
        (257, (0, 0, 0o101, 0o666)),
        (NEWEST, ()),
    ],
)
def test_what_ordinary_programs_do_is_allowed(number, arguments):
    assert judge(number, *arguments) == "allow"


@pytest.mark.parametrize(
    ("number", "arguments", "answer"),
    [
        (16, (0, 0xFFFFFFFF_00005412), "EPERM"),  # the kernel looks at the lower half only
        (56, (0xFFFFFFFF_10000000,), "EPERM"),
        (41, (16, 3, 15), "EAFNOSUPPORT"),
        (90, (0, 0o2755), "EPERM"),
        (2, (0, 0o101, 0o4755), "EPERM"),
        (257, (0, 0, 0o20200002, 0o4755), "EPERM"),  # openat O_TMPFILE
        (NEWEST + 1, (), "ENOSYS"),
        (0x40000000, (), "kill"),  # x32
        (0x40000000 + 101, (), "kill"),
    ],
)
def test_ways_around_are_closed(number, arguments, answer):
    assert judge(number, *arguments) == answer


def test_another_architecture_ends_the_process():
    assert run(program(machine="x86_64"), 0, architecture=0x40000003) == "kill"
    assert run(program(machine="aarch64"), 0, architecture=ARCHITECTURES["x86_64"]) == "kill"


@pytest.mark.parametrize("family", [1, 2, 10, 16, 40])
def test_without_families_there_are_no_sockets_but_pairs(family):
    assert judge(41, family, families=()) == "EAFNOSUPPORT"
    assert judge(53, 1, families=()) == "allow"


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 2**64 - 1), max_size=6), st.sampled_from([*ARCHITECTURES]))
def test_every_call_comes_to_an_answer(number, arguments, machine):
    answer = judge(number, *arguments, machine=machine)
    assert (answer == "allow") <= (number <= NEWEST)


@given(st.sampled_from(CASES), st.lists(st.integers(0, 2**64 - 1), max_size=6))
def test_whatever_its_arguments_what_is_refused_stays_refused(case, arguments):
    machine, name, number = case
    if name not in JUDGED:
        assert judge(number, *arguments, machine=machine) == "EPERM"


@pytest.mark.parametrize("group", CALLS)
def test_a_group_that_is_left_out_is_allowed(group):
    left = [other for other in CALLS if other != group]
    numbers = [numbers[0] for numbers in CALLS[group].values() if numbers[0] is not None]
    code = program(left, machine="x86_64")
    answers = {run(code, number, 40, 0o4755, 0o4755, architecture=ARCHITECTURES["x86_64"]) for number in numbers}
    assert answers == {"allow"}


def test_jumps_and_length_fit_into_what_the_kernel_takes():
    for machine in ARCHITECTURES:
        assert len(program(machine=machine)) // 8 < 4096
