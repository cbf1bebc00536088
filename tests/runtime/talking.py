"""A process that runs one session of a model that talks, and goes on as it is told on standard input.

`python -m tests.runtime.talking STORE` says `session ID`; each line `say TEXT` is the next text of the reply,
`end` ends it, and `lose` breaks it off.
"""

import asyncio
import sys
from collections.abc import Callable

from ostler import Agent, Runtime
from ostler.domain.model import ModelRef, ModelRequest, Reply
from ostler.kernel.errors import ProviderUnreachable


class Talker:
    """A model object that says what stands in its queue, until `None`; an exception is raised."""

    def __init__(self, name: str = "talker") -> None:
        self.ref = ModelRef("scripted", "scripted", name)
        self.words: asyncio.Queue[str | Exception | None] = asyncio.Queue()

    async def complete(self, request: ModelRequest, on_text: Callable[[str], None]) -> Reply:
        said = ""
        while (word := await self.words.get()) is not None:
            if isinstance(word, Exception):
                raise word
            said += word
            on_text(word)
        return Reply(said, model=self.ref.name)

    async def close(self) -> None:
        """Nothing is held."""


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def main(store: str) -> None:
    model = Talker()
    agent = Agent("talker", model=model)
    loop, stdin = asyncio.get_running_loop(), asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin)
    async with Runtime.open(store, agents=[agent]) as runtime:
        session = await runtime.start(agent, "Talk.")
        say(f"session {session.id}")
        while line := (await stdin.readline()).decode().rstrip("\n"):
            verb, _, text = line.partition(" ")
            word = {"say": text, "end": None, "lose": ProviderUnreachable("it went away")}[verb]
            model.words.put_nowait(word)
            if verb == "end":
                say(f"ended {(await session.result()).status}")
                return


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
