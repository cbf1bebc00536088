"""What a verdict costs, beside the simplest thing that Python does and beside Cedar, on equal rules, in one run.

`python -m benchmarks.verdicts [--json]`. The worst case is measured: 99 rules that deny and do not match, all of them
about the tool, and an ALLOW at the end; the calls are drawn from the very values that the rules name, and of 40 calls
that pass the slowest is the figure. The unit is one iteration of `for i in numbers: x += i`.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from ostler.domain.constraint.compile import Compiled, compile_policy, policy_of
from ostler.domain.constraint.facts import Facts

ROUNDS = 5
COUNTRIES = ["DE", "FR", "KP", "IR", "US", "GB", "CU", "SY", "NL", "PL", "CH", "AT"]
CURRENCIES = ["EUR", "USD", "GBP", "CHF", "JPY", "RUB", "CNY", "PLN"]
HOSTS = [f"host{number}.example" for number in range(24)]
CHANNELS = ["web", "app", "phone", "mail", "branch", "api", "batch", "partner"]
TENANTS = [f"tenant{number}" for number in range(12)]
WORDS = ["secret", "private", "untrusted", "health", "legal", "export"]
ROLES = ["clerk", "guest", "trainee", "auditor", "contractor", "manager"]
KINDS = ["user", "agent", "service"]
NAMES = ["payer", "coder", "clerk", "helper"]


class Measured(msgspec.Struct):
    """Times in nanoseconds; `ratio` is to one iteration, `worst` of all calls measured and `median` of them."""

    iteration_ns: float
    median_ns: float
    worst_ns: float
    median_ratio: float
    worst_ratio: float
    thousand_ns: float
    thousand_ratio: float
    compile_ms: float
    cedar_ns: float | None = None
    cedar_ratio: float | None = None


def conditions(count: int) -> Iterator[tuple[str, str]]:
    """Conditions over 17 attributes, as our rules and as Cedar write them."""
    made: list[Callable[[int], tuple[str, str]]] = [
        lambda n: _both(f"amount > {9000 + 10 * n}", f'country == "{COUNTRIES[n % 12]}"'),
        lambda n: _both(f'currency == "{CURRENCIES[n % 8]}"', "urgent == true", f"items > {n % 40}"),
        lambda n: _both(f"session.steps > {60 + n}"),
        lambda n: _both(f"host in {HOSTS[n % 24]} {HOSTS[(n + 7) % 24]}", f"context.labels has {WORDS[n % 6]}"),
        lambda n: _both(f'channel == "{CHANNELS[n % 8]}"', f"items >= {20 + n}"),
        lambda n: _both(f"session.tokens > {90000 + 500 * n}", 'principal.kind == "service"'),
        lambda n: _both(f"weight < {5 + n % 60}", f'tenant.id == "{TENANTS[n % 12]}"'),
        lambda n: _both("amount > 5000", f"principal.roles has {ROLES[n % 6]}", f"priority >= {n % 9}"),
        lambda n: _both(f"session.tool_calls >= {150 + n}", f'agent.name == "{NAMES[n % 4]}"'),
        lambda n: _both(
            f"priority > {n % 10}", f"country in {COUNTRIES[n % 12]} {COUNTRIES[(n + 5) % 12]}", "urgent == true"
        ),
        lambda n: _both(f"session.elapsed_s > {600 + n}", f"distance > {n * 3}"),
        lambda n: _both(f"agent.version < {1 + n % 3}", f'channel == "{CHANNELS[(n + 3) % 8]}"'),
    ]
    for number in range(count):
        yield made[number % len(made)](number)


ARGUMENTS = ("amount", "country", "currency", "urgent", "items", "host", "channel", "weight", "priority", "distance")


def _both(*parts: str) -> tuple[str, str]:
    ours, cedars = zip(*map(_part, parts), strict=True)
    return " AND ".join(ours), " && ".join(cedars)


def _part(part: str) -> tuple[str, str]:
    name, operator, *values = part.split(" ")
    ours = f"args.{name}" if name in ARGUMENTS else name
    cedars = f"context.{name.replace('.', '_')}"
    if operator == "in":
        listed = ", ".join(f'"{value}"' for value in values)
        return f"{ours} IN {{{listed}}}", f"[{listed}].contains({cedars})"
    if operator == "has":
        return f'{ours} HAS "{values[0]}"', f'{cedars}.contains("{values[0]}")'
    if name == "session.elapsed_s":
        return f"session.elapsed {operator} {values[0]}s", f"{cedars} {operator} {values[0]}"
    return f"{ours} {operator} {values[0]}", f"{cedars} {operator} {values[0]}"


def our_rules(count: int, *, others: int = 0) -> str:
    """`count` rules about the tool `pay`, the last of which allows, among `others` about other tools."""
    lines = [f"DENY tool.pay IF {ours}" for ours, _ in conditions(count - 1)]
    lines += [f"DENY tool.other{number} IF {ours}" for number, (ours, _) in enumerate(conditions(others))]
    return "\n".join([*lines, "ALLOW tool.pay IF args.amount >= 0"])


def cedar_rules(count: int) -> str:
    """The same rules in Cedar."""
    lines = [
        f'forbid(principal, action == Action::"pay", resource) when {{ {cedars} }};'
        for _, cedars in conditions(count - 1)
    ]
    return "\n".join([*lines, 'permit(principal, action == Action::"pay", resource) when { context.amount >= 0 };'])


def calls(judge: Compiled, count: int, seed: int = 1) -> list[Facts]:
    """Calls of values that the rules name, which no rule denies."""
    chance = random.Random(seed)
    found: list[Facts] = []
    while len(found) < count:
        facts = _call(chance)
        if judge.judge(facts).effect == "allow":
            found.append(facts)
    return found


def _call(chance: random.Random) -> Facts:
    return Facts(
        tool="pay",
        args={
            "amount": chance.randrange(11000),
            "country": chance.choice(COUNTRIES),
            "currency": chance.choice(CURRENCIES),
            "urgent": chance.random() < 0.3,
            "items": chance.randrange(30),
            "host": chance.choice(HOSTS),
            "channel": chance.choice(CHANNELS),
            "weight": chance.randrange(100),
            "priority": chance.randrange(10),
            "distance": chance.randrange(400),
        },
        agent=chance.choice(NAMES),
        agent_version=chance.randrange(1, 5),
        tenant=chance.choice(TENANTS),
        principal_kind=chance.choice(KINDS),
        principal_roles=frozenset(chance.sample(ROLES, 1)),
        labels=frozenset(chance.sample(WORDS, 1)),
        steps=chance.randrange(70),
        tool_calls=chance.randrange(160),
        tokens=chance.randrange(120000),
        elapsed_us=chance.randrange(700) * 1_000_000,
    )


def _best(function: Callable[[], Any], times: int) -> float:
    """Nanoseconds of one call, at its best of several rounds."""
    rounds = []
    for _ in range(ROUNDS):
        begun = time.perf_counter_ns()
        for _ in range(times):
            function()
        rounds.append((time.perf_counter_ns() - begun) / times)
    return min(rounds)


def iteration_ns() -> float:
    """Nanoseconds of one iteration of the simplest loop."""

    def loop(numbers: range) -> int:
        x = 0
        for i in numbers:
            x += i
        return x

    return _best(lambda: loop(range(20_000)), 5) / 20_000


def cedar_ns(facts: Facts, count: int = 100) -> float:
    """Nanoseconds of one decision of Cedar on the same rules, read once."""
    import cedarpy

    policies = cedarpy.PolicySet.from_str(cedar_rules(count)) if hasattr(cedarpy, "PolicySet") else cedar_rules(count)
    entities: Any = cedarpy.Entities.from_json_str("[]") if hasattr(cedarpy, "Entities") else []
    context = {
        **facts.args,
        "agent_name": facts.agent,
        "agent_version": facts.agent_version,
        "tenant_id": facts.tenant,
        "principal_kind": facts.principal_kind,
        "principal_roles": sorted(facts.principal_roles),
        "context_labels": sorted(facts.labels),
        "session_steps": facts.steps,
        "session_tool_calls": facts.tool_calls,
        "session_tokens": facts.tokens,
        "session_elapsed_s": facts.elapsed_us // 1_000_000,
    }
    request = {"principal": 'User::"u"', "action": 'Action::"pay"', "resource": 'Account::"a"', "context": context}
    decided = cedarpy.is_authorized(request, policies, entities)
    if not decided.allowed:
        raise AssertionError(f"Cedar decides otherwise: {decided.diagnostics.errors}")
    return _best(lambda: cedarpy.is_authorized(request, policies, entities), 100)


def measure(*, times: int = 1000, calls_measured: int = 40, cedar: bool = True) -> Measured:
    """All of it, in one run."""
    text = our_rules(100)
    policy_of("ALLOW *")  # the grammar itself is read once in a process
    begun = time.process_time()
    judge = compile_policy(policy_of(text))
    judge.judge(Facts(tool="pay"))
    compile_ms = (time.process_time() - begun) * 1000
    thousand = compile_policy(policy_of(our_rules(5, others=995), "thousand"))
    facts = calls(judge, calls_measured)
    few = calls(thousand, 1)[0]
    times_ns: list[float] = []
    ratios: list[float] = []
    for one in facts:
        # The machine may slow down for a while: both are measured in turn, and the calmest turn counts.
        turns = [(_best(lambda: judge.judge(one), times), iteration_ns()) for _ in range(3)]  # noqa: B023
        spent, unit = min(turns, key=lambda turn: turn[0] / turn[1])
        times_ns.append(spent)
        ratios.append(spent / unit)
    unit = iteration_ns()
    few_ns = _best(lambda: thousand.judge(few), times)
    median = statistics.median(times_ns)
    found = Measured(
        unit, median, max(times_ns), statistics.median(ratios), max(ratios), few_ns, few_ns / median, compile_ms
    )
    if cedar:
        found.cedar_ns = cedar_ns(facts[0])
        found.cedar_ratio = found.cedar_ns / max(times_ns)
    return found


def main() -> None:
    """Measure, and print what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="as JSON")
    asked = parser.parse_args()
    found = measure()
    if asked.json:
        print(msgspec.json.encode(found).decode())
        return
    ns, times, cedar = found.worst_ns, found.worst_ratio, found.cedar_ns or 0
    few, ratio = found.thousand_ns, found.thousand_ratio
    print(f"one iteration of x += i            {found.iteration_ns:9.1f} ns")
    print(f"100 rules, the median of 40 calls  {found.median_ns:9.0f} ns  {found.median_ratio:6.1f} iterations")
    print(f"100 rules, the slowest of 40 calls {ns:9.0f} ns  {times:6.1f} iterations (at most 60)")
    print(f"1,000 rules, 5 of them about it    {few:9.0f} ns  {ratio:6.2f} × that of 100 (at most 2)")
    print(f"Cedar, the same 100 rules          {cedar:9.0f} ns  {cedar / ns:6.0f} × the slowest (at least 50)")
    print(f"reading and compiling 100 rules    {found.compile_ms:9.1f} ms of CPU (under 100)")


if __name__ == "__main__":
    main()
