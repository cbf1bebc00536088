"""A process that remembers, beside others: `python -m tests.runtime.memory.rememberer FOLDER NAME COUNT`.

Every second thing is remembered under a key that all such processes share.
"""

import asyncio
import sys
from pathlib import Path

from tests.runtime.memory.remembering import SCOPE, lives, memories_in, wish
from tests.runtime.mortal import say


async def remember(folder: Path, name: str, count: int) -> None:
    async with memories_in(folder) as memories:
        say("ready")
        for number in range(count):
            key = f"shared/{number}" if number % 2 else f"{name}/{number}"
            text = f"What has the key {key}"
            remembered = await memories.remember(SCOPE, lives(text) if number % 5 == 0 else wish(text), key=key)
            say(f"remembered {remembered.id}")
            if number % 7 == 0:
                await memories.recall(SCOPE, "key shared", call=f"{name}/{number}")
    say("done")


if __name__ == "__main__":
    asyncio.run(remember(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
