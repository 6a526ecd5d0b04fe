"""Fuzzes every target for a while: `python -m fuzz [--seconds N] [--only TARGET]`. Needs atheris (`make fuzz` has it).

What it finds stays in build/fuzz/found; a finding that is fixed goes into tests/fuzz/corpus, which is replayed by
tests/fuzz/test_corpus.py.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from fuzz.readers import READERS
from fuzz.seeds import write_seeds

TARGETS = (*READERS, "c_abi")
CORPUS = Path(__file__).parent / "corpus"
WORK = Path("build/fuzz")
LIMITS = ("-timeout=20", "-rss_limit_mb=2048", "-max_len=65536", "-len_control=0", "-print_final_stats=1")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--only", choices=TARGETS)
    options = parser.parse_args()
    write_seeds(WORK / "seeds")
    failed = [name for name in TARGETS if options.only in (None, name) and not _fuzz(name, options.seconds)]
    for name in failed:
        sys.stderr.write(f"{name}: failed; its input is in {WORK / 'found'}\n")
    return 1 if failed else 0


def _fuzz(name: str, seconds: int) -> bool:
    """Whether nothing was found. What the fuzzer learns is kept for its next run."""
    learnt, seeds, found = WORK / "learnt" / name, WORK / "seeds" / name, WORK / "found"
    for folder in (learnt, seeds, found):
        folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "fuzz.target", name, f"-max_total_time={seconds}", *LIMITS]
    corpus = [str(CORPUS / name)] if (CORPUS / name).is_dir() else []
    command += [f"-artifact_prefix={found}/{name}-", str(learnt), str(seeds), *corpus]
    sys.stderr.write(f"==> {name}, {seconds} s\n")
    with subprocess.Popen(command) as process:
        status = process.wait()
    for left in Path("/dev/shm").glob(f"coe-fuzz-*{process.pid}"):  # a crash takes no arena down
        left.unlink()
    return status == 0


if __name__ == "__main__":
    sys.exit(main())
