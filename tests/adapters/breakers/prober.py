"""A process that asks 200 times at once whether it may call, and says how often it may: PREFIX URL UNTIL_US."""

import asyncio
import sys

from ostler.adapters.breakers.redis import RedisBreakers
from ostler.domain.resilience.breaker import Admitted
from ostler.testing.contracts.breakers import BREAKER, KEY


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def main(prefix: str, url: str, until_us: int) -> None:
    breakers = RedisBreakers(url, prefix=prefix)
    await breakers.look(KEY, now_us=0)  # connected before the race begins
    say("ready")
    sys.stdin.readline()
    answers = await asyncio.gather(*(breakers.admit(KEY, BREAKER, now_us=until_us) for _ in range(200)))
    say(str(sum(isinstance(answer, Admitted) for answer in answers)))
    await breakers.close()


asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
