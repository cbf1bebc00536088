"""Programs of agents: what they can do, what they cannot, and how they wait for what comes of a call."""

import pytest

from ostler.adapters.tools.code import CodeLimits, CodeTools, Failed, Finished, Interpreter, Suspended
from ostler.domain.tool import ToolRequest, failed, succeeded

FILES = {"files_read": ["path", "encoding"], "shell_run": ["argv"]}


@pytest.fixture
async def interpreter():
    made = Interpreter(CodeLimits(turn_s=1.0))
    yield made
    await made.close()


async def finish(interpreter, step, gate):
    """The loop that a runtime runs: each call is judged and performed, and the program goes on with its outcome."""
    asked = []
    while isinstance(step, Suspended):
        asked.append((step.function, step.arguments))
        step = await interpreter.resume(step.snapshot, gate(step))
    return step, asked


async def test_a_program_that_only_computes_ends_with_its_last_value(interpreter):
    step = await interpreter.start("import json\nprint('hi')\njson.loads('[1, 2]') + [3]", {})
    assert step == Finished([1, 2, 3], "hi\n")


async def test_each_call_stops_the_program_until_its_outcome_is_known(interpreter):
    code = """
names = files_read("names.txt").split()
found = {}
for name in names:
    print("reading", name)
    found[name] = files_read(path=name, encoding="utf-8")["size"]
found
"""

    def gate(step):
        path = step.arguments["path"]
        return succeeded("a b") if path == "names.txt" else succeeded({"size": len(path)})

    step, asked = await finish(interpreter, await interpreter.start(code, FILES), gate)
    assert asked == [
        ("files_read", {"path": "names.txt"}),
        ("files_read", {"path": "a", "encoding": "utf-8"}),
        ("files_read", {"path": "b", "encoding": "utf-8"}),
    ]
    assert step == Finished({"a": 1, "b": 1}, "reading a\nreading b\n")


async def test_a_snapshot_is_small_and_goes_on_elsewhere_and_more_than_once(interpreter):
    step = await interpreter.start("total = 1\ntotal += files_read('x')\ntotal", FILES)
    assert len(step.snapshot) < 8 * 1024
    other = Interpreter()
    try:
        assert await other.resume(step.snapshot, succeeded(4)) == Finished(5)
        assert await interpreter.resume(step.snapshot, succeeded(6)) == Finished(7)
    finally:
        await other.close()


async def test_a_refused_call_is_an_error_that_the_program_can_answer(interpreter):
    code = "try:\n    files_read('secret')\nexcept RuntimeError as error:\n    answer = str(error)\nanswer"
    step, _ = await finish(interpreter, await interpreter.start(code, FILES), lambda _: failed("blocked", "rule 3"))
    assert step == Finished("blocked: rule 3")


async def test_a_refused_call_that_is_not_answered_ends_the_program(interpreter):
    step, _ = await finish(
        interpreter, await interpreter.start("files_read('x')", FILES), lambda _: failed("blocked", "rule 3")
    )
    assert step == Failed("permanent", "RuntimeError: blocked: rule 3")


@pytest.mark.parametrize(
    ("code", "kind", "reason"),
    [
        ("1 +", "invalid", "SyntaxError"),
        ("raise ValueError('x')", "permanent", "ValueError: x"),
        ("other_tool('x')", "permanent", "NameError"),
        ("files_read(1, 2, 3)", "invalid", "TypeError"),
        ("files_read('a', path='b')", "invalid", "TypeError"),
        ("while True: pass", "timeout", "TimeoutError"),
        ("'x' * 2_000_000_000", "permanent", "MemoryError"),
        ("x = []\nwhile True: x.append('x' * 10_000)", "permanent", "MemoryError"),
        ("def f(n): return f(n + 1)\nf(0)", "permanent", "RecursionError"),
        ("while True: print('x' * 10_000)", "permanent", "MemoryError"),
    ],
)
async def test_a_program_that_goes_wrong_says_why_and_is_bounded(interpreter, code, kind, reason):
    step = await interpreter.start(code, FILES)
    assert isinstance(step, Failed)
    assert step.kind == kind
    assert reason in step.reason


@pytest.mark.parametrize(
    "code",
    [
        "open('/etc/passwd').read()",
        "open('x', 'w').write('x')",
        "import os\nos.environ['HOME']",
        "import os\nos.system('id')",
        "import subprocess",
        "import socket",
        "import ctypes",
        "__import__('os')",
        "().__class__.__base__.__subclasses__()",
        "(lambda: 0).__globals__",
        "eval('open(\"/etc/passwd\").read()')",
        "from pathlib import Path\nPath('/etc/passwd').read_text()",
    ],
)
async def test_there_is_nothing_of_the_machine_to_reach(interpreter, code):
    step = await interpreter.start(code, FILES)
    assert isinstance(step, Failed), step


async def test_calls_are_bounded_over_all_snapshots():
    interpreter = Interpreter(CodeLimits(calls=3))
    try:
        begun = await interpreter.start("while True: files_read('x')", FILES)
        step, asked = await finish(interpreter, begun, lambda _: succeeded("x"))
    finally:
        await interpreter.close()
    assert len(asked) == 3
    assert step == Failed("permanent", "the program has made 3 calls, which is all it may")


async def test_a_function_can_be_handed_around_and_called_later(interpreter):
    code = "reader = files_read\n[reader(name) for name in ('a', 'b')]"
    step, asked = await finish(
        interpreter, await interpreter.start(code, FILES), lambda step: succeeded(step.arguments["path"])
    )
    assert step == Finished(["a", "b"])
    assert len(asked) == 2


@pytest.mark.parametrize("snapshot", [b"", b"x", b"\x95\xa30.1\x80\x00\xa0\xc4\x00"])
async def test_what_is_no_snapshot_of_this_version_is_refused(interpreter, snapshot):
    assert isinstance(await interpreter.resume(snapshot, succeeded("x")), Failed)


async def test_values_without_a_json_form_are_told_as_text(interpreter):
    assert await interpreter.start("{(1, 2): 3}", {}) == Finished("{(1, 2): 3}")


async def test_the_tool_answers_with_the_value_and_what_was_printed():
    tools = CodeTools()
    try:
        (spec,) = tools.specs()
        request = ToolRequest(spec.name, {"code": "print('x')\n6 * 7"}, "ses_1/1.1", "default", 10.0)
        outcome = await tools.perform(request)
        assert (outcome.ok, outcome.output) == (True, '{"value":42,"printed":"x\\n"}')
        request = ToolRequest(spec.name, {"code": "files_read('x')"}, "ses_1/2.1", "default", 10.0)
        assert "NameError" in (await tools.perform(request)).output
    finally:
        await tools.close()
