"""The benchmark for a GPU goes its whole way without one."""

import json
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parents[1] / "gpu" / "bench.py"


def test_the_benchmark_runs_on_a_cpu(tmp_path):
    done = subprocess.run([sys.executable, BENCH, "--device", "cpu", "--json", tmp_path / "bench.json"], capture_output=True,
                          encoding="utf-8", timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads((tmp_path / "bench.json").read_text())
    assert {(row["loop"], row["norm"], row["precision"]) for row in told["loops"]} == {
        (loop, norm, precision) for loop in ("train", "eager loop") for norm in ("none", "batch") for precision in ("float32", "bf16")}
    assert len(told["checks"]) == 11 and all(holds for _, holds, _ in told["checks"]) and "FAILED" not in done.stdout
