"""A loop written by hand, which keeps nothing."""

from benchmarks.peers.load import WARM, Bench, run


async def peer(bench: Bench) -> None:
    async def ask(messages: list[dict[str, str]]) -> dict[str, str]:
        turn = bench.turn(messages[0]["content"], len(messages) // 2 + 1)
        return {"role": "assistant", "content": turn.text, "sku": turn.sku or ""}

    async def session(goal: str) -> None:
        messages = [{"role": "user", "content": goal}]
        while True:
            reply = await ask(messages)
            messages.append(reply)
            if not reply["sku"]:
                break
            messages.append({"role": "tool", "content": bench.find(reply["sku"])})
        bench.judge(goal, [message["content"] for message in messages if message["role"] == "tool"], reply["content"])

    await session(WARM)
    with bench.measured():
        await bench.each(session)


if __name__ == "__main__":
    run(peer)
