"""`coe bench first-token`: time to first token for an expert that was evicted from HBM.

It measures what is gained if the expert's first layers stay in HBM (`COE_TIERS_PART_SHARE`). Four real experts take
turns on an HBM with room for 2.9, one prompt at a time, so each has been evicted when it is needed again, and the link
is idle between prompts. With parts, the room that is too small for a third expert holds first layers.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from coe.bench.node import prepare, serve
from coe.bench.tiers import replicas
from coe.cli.asked import known
from coe.cli.bench_schedule import LINKS, link_speed
from coe.cli.console import out, print_json
from coe.simulation.trace import Trace

EXPERTS, ROOM = 4, 2.9
# Uncounted rounds through the experts, after which all are in DDR and the evicted ones have their parts in HBM.
WARM_UP = 2
SHARES = (0.0, 0.2, 0.4)


async def run(links: Sequence[str], rounds: int, gap_s: float, threads: int, as_json: bool) -> None:
    """`gap_s`: from one prompt to the next, long enough to answer it and to read a part."""
    known("link", links, LINKS)
    with tempfile.TemporaryDirectory(prefix="coe-bench-") as folder:
        names = replicas(Path(folder), EXPERTS)
        setting = prepare(Path(folder), names[0], room=ROOM, threads=threads, max_batch=4, max_wait_s=20.0)
        count = EXPERTS * (WARM_UP + rounds)
        trace = Trace([gap_s * index for index in range(count)], names * (WARM_UP + rounds), [0] * count, [2] * count)
        for link in links:
            speed, before_s = link_speed(link, threads), 0.0
            for share in SHARES:
                node = replace(setting, part_share=share)
                answered = await serve(node, trace, "lookahead", link=speed, progress=lambda more: None)
                p50, p99 = np.percentile(answered.first_tokens[EXPERTS * WARM_UP :], (50, 99)).tolist()
                before_s = before_s or p50
                if as_json:
                    figures = {"link": link, "part_share": share, "p50_first_token_s": p50, "p99_first_token_s": p99}
                    print_json({"bench": "first-token", "bytes_per_second": speed, **figures})
                    continue
                out.print(
                    f"{link}: first layers {share:.0%}: first token p50 {p50 * 1e3:.0f} ms, p99 {p99 * 1e3:.0f} ms "
                    f"({p50 / before_s - 1:+.0%})"
                )
