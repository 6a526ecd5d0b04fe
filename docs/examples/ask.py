"""Ask over Kafka in JSON with only confluent-kafka: python ask.py BOOTSTRAP PROMPT."""

import json
import sys
import time
import uuid

from confluent_kafka import Consumer, Producer, TopicPartition

bootstrap, prompt = sys.argv[1:]
request_id = str(uuid.uuid4())

# Terminal events are written in transactions: only read_committed skips the aborted ones.
options = {"bootstrap.servers": bootstrap, "group.id": "ask", "isolation.level": "read_committed"}
consumer = Consumer({**options, "enable.auto.commit": False})
partitions = [
    TopicPartition(topic, number)
    for topic in ("coe.tokens.v1", "coe.completions.v1")
    for number in consumer.list_topics(topic, timeout=10).topics[topic].partitions
]
for partition in partitions:
    # Start at the end of each partition, before the prompt is sent.
    partition.offset = consumer.get_watermark_offsets(partition, timeout=10)[1]
consumer.assign(partitions)

producer = Producer({"bootstrap.servers": bootstrap})
deadline_ms = time.time_ns() // 1_000_000 + 60_000
value = json.dumps({"request_id": request_id, "prompt": prompt, "deadline_ms": deadline_ms})
producer.produce("coe.prompts.v1", value, request_id, headers={"content-type": "application/json"})
producer.flush()

# A missed deadline is answered with an error too: no answer at all means that the system is down.
while time.time_ns() // 1_000_000 < deadline_ms + 10_000:
    message = consumer.poll(1.0)
    if message is None or message.error() or message.key() != request_id.encode():
        continue
    event = json.loads(message.value())
    if message.topic() == "coe.completions.v1":
        # End the line of streamed text.
        print(file=sys.stderr)
        break
    # Streamed text is best effort. A higher "attempt", or "sequence" 0 again, restarts the answer.
    print(event.get("text", {}).get("text", ""), end="", file=sys.stderr, flush=True)
else:
    sys.exit("no answer")
consumer.close()
print(event["completion"]["text"] if "completion" in event else event["error"]["message"])
