"""Asks over Kafka in JSON, with confluent-kafka alone: python ask.py BOOTSTRAP PROMPT."""

import json
import sys
import time
import uuid

from confluent_kafka import Consumer, Producer, TopicPartition

bootstrap, prompt = sys.argv[1:]
request_id = str(uuid.uuid4())

# Answers are written in transactions: only read_committed skips the ends that were taken back.
options = {"bootstrap.servers": bootstrap, "group.id": "ask", "isolation.level": "read_committed"}
consumer = Consumer({**options, "enable.auto.commit": False})
partitions = [
    TopicPartition(topic, number)
    for topic in ("coe.tokens.v1", "coe.completions.v1")
    for number in consumer.list_topics(topic, timeout=10).topics[topic].partitions
]
for partition in partitions:
    # From here on, before the prompt is out.
    partition.offset = consumer.get_watermark_offsets(partition, timeout=10)[1]
consumer.assign(partitions)

producer = Producer({"bootstrap.servers": bootstrap})
deadline_ms = time.time_ns() // 1_000_000 + 60_000
value = json.dumps({"request_id": request_id, "prompt": prompt, "deadline_ms": deadline_ms})
producer.produce("coe.prompts.v1", value, request_id, headers={"content-type": "application/json"})
producer.flush()

# That the deadline passed is told as well: nothing comes only of a system that does not run.
while time.time_ns() // 1_000_000 < deadline_ms + 10_000:
    message = consumer.poll(1.0)
    if message is None or message.error() or message.key() != request_id.encode():
        continue
    event = json.loads(message.value())
    if message.topic() == "coe.completions.v1":
        # What came so far stands alone.
        print(file=sys.stderr)
        break
    # As it comes, and best effort. A higher "attempt" than before, or "sequence" 0 again, begins it anew.
    print(event.get("text", {}).get("text", ""), end="", file=sys.stderr, flush=True)
else:
    sys.exit("no answer came")
consumer.close()
print(event["completion"]["text"] if "completion" in event else event["error"]["message"])
