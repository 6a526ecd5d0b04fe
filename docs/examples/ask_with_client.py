"""Ask over Kafka with the client library: python ask_with_client.py BOOTSTRAP PROMPT."""

import asyncio
import sys

from coe.client import Completed, PromptSubmitted, Text, connect


async def ask(bootstrap: str, prompt: str) -> None:
    async with connect(bootstrap) as client:
        async for event in client.submit(PromptSubmitted(prompt=prompt), timeout_s=60):
            match event:
                case Text(text):
                    print(text, end="", file=sys.stderr, flush=True)
                case Completed(result):
                    print(result.completion.text or result.error.message)


asyncio.run(ask(*sys.argv[1:]))
