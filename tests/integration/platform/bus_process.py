"""A process that the crash tests kill: consumes `in-RUN` and answers each record once on `out-RUN`.

`process` and `parallel` work on their own. `held` waits for a line of input before it completes a record. Each
says what it took and what came of it.
"""

import asyncio
import sys

from coe._proto import events_pb2
from coe.platform import logs
from coe.platform.bus.api import Outcome, Outgoing, ParallelConsumer, Record, Subscription, TopicSpec
from coe.platform.bus.codec import decode
from coe.platform.bus.kafka import KafkaBus

SESSION_TIMEOUT_S = 2.0
_READING = asyncio.Lock()


def specs(run: str) -> list[TopicSpec]:
    return [TopicSpec(f"in-{run}", 3), TopicSpec(f"out-{run}", 1)]


def answer(run: str, record: Record) -> Outcome:
    request_id = decode(record, events_pb2.PromptSubmitted).request_id
    return Outcome(publish=(Outgoing(f"out-{run}", request_id, events_pb2.PromptCompleted(request_id=request_id)),))


def say(*words: object) -> None:
    print(*words, flush=True)


async def main(bootstrap: str, run: str, mode: str) -> None:
    bus = KafkaBus(bootstrap, source=f"coe/{mode}", ensure=specs(run), session_timeout_s=SESSION_TIMEOUT_S)
    await bus.start()
    subscription = Subscription(f"in-{run}", f"group-{run}", max_batch=8, max_in_flight=16)
    if mode == "process":
        await bus.process(subscription, lambda records: answer_all(run, records))
        return
    async with bus.parallel(subscription) as consumer, asyncio.TaskGroup() as tasks:
        keys = await lines() if mode == "held" else None
        async for record in consumer:
            key = (record.key or b"").decode()
            say("took", key, consumer.attempt(record))
            tasks.create_task(complete(consumer, record, run, keys))


async def answer_all(run: str, records: "list[Record]") -> list[Outcome]:
    return [answer(run, record) for record in records]


async def complete(consumer: ParallelConsumer, record: Record, run: str, keys: "asyncio.StreamReader | None") -> None:
    if keys is not None:
        async with _READING:
            await keys.readline()
    done = await consumer.complete(record, answer(run, record))
    say("completed" if done else "lost", (record.key or b"").decode())


async def lines() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


if __name__ == "__main__":
    logs.configure("bus-process", level="WARNING")
    asyncio.run(main(*sys.argv[1:]))
