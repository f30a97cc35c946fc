"""How fast is training on this machine, and does a GPU measure what a CPU does? ``python tests/gpu/bench.py``

On a GPU: VGG-16 on images of CIFAR-10's size (random ones: nothing is downloaded, and speed does not depend on what is learnt), batch 128.
Told: milliseconds a step of ``train`` and of the loop that most reproductions write, median of the rounds, and peak memory. Then checks:
the same numbers twice, looks do not disturb, every probe on the device against the CPU, each precision as far from float32 as it should
be. On a CPU small networks go the same way, so that this script is known to run. Exit code 1 if a check fails.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).parents[2]))

from bncourse import nets  # noqa: E402
from bncourse.data import Data  # noqa: E402
from bncourse.precision import exactly, lower, rounded  # noqa: E402
from bncourse.probes.activations import Moments  # noqa: E402
from bncourse.probes.curvature import Curvature  # noqa: E402
from bncourse.probes.landscape import Landscape  # noqa: E402
from bncourse.probes.shift import Shift  # noqa: E402
from bncourse.train import batches, train  # noqa: E402

SETTINGS = {"cuda": ("16", (3, 32, 32), 50_000, 128, 300, 5), "cpu": ("small", (1, 8, 8), 256, 16, 12, 2)}
PRECISIONS = {"cuda": ("float32", "tf32", "bf16"), "cpu": ("float32", "bf16")}
PROBES = {"moments": Moments, "shift": Shift, "landscape": lambda: Landscape((1, 2)), "curvature": Curvature}


def images(image, examples, device):
    """Random images that carry their class in their mean, so that a network has something to learn."""
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(10, (examples,), generator=generator)
    x = torch.randn(examples, *image, generator=generator) + 0.2 * (y[:, None, None, None] - 4.5)
    x, y = x.to(device), y.to(device)
    return Data("random images", x, y, x[:1000], y[:1000], classes=10)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=list(SETTINGS), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path, help="write everything there as well")
    options = parser.parse_args()
    device = options.device
    if device == "cuda" and not torch.cuda.is_available():
        parser.error("torch sees no GPU here; --device cpu goes the same way with small networks")
    if device == "cpu":
        torch.set_num_threads(1)
    plan, image, examples, batch, steps, rounds = SETTINGS[device]
    data = images(image, examples, device)

    def vgg(norm):
        return lambda seed: nets.vgg(image, 10, plan, norm, "he", seed, fused=True)

    def ours(norm, precision="float32", steps=steps, on=data, **more):
        return train(vgg(norm), on, **dict(seeds=[0], lrs=[0.02], steps=steps, batch_size=batch, record=[steps], test=False,
                                           precision=precision) | more)

    def eager(norm, precision, steps):
        """As most reproductions write it; the data are on the device already, which most of them do not do."""
        model = vgg(norm)(0).to(device).train()
        optimizer, order, total = torch.optim.SGD(model.parameters(), lr=0.02), batches(examples, batch, 0), 0.0
        with exactly(torch.device(device)), rounded(precision):
            for _ in range(steps):
                index = next(order).to(device)
                with lower(precision, torch.device(device)):
                    outputs = model(data.x_train[index])
                loss = F.cross_entropy(outputs.float(), data.y_train[index])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += loss.item()
        return total

    def seconds(do, steps):
        started = time.perf_counter()
        do(steps)
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started

    loops = []
    for norm in ("none", "batch"):
        for precision in PRECISIONS[device]:
            for name, do in (("train", lambda n: ours(norm, precision, n)), ("eager loop", lambda n: eager(norm, precision, n))):
                do(steps // 3)
                # What does not grow with the steps (building, looking) is taken off by timing two lengths.
                taken = [1e3 * (seconds(do, steps) - seconds(do, steps // 3)) / (steps - steps // 3) for _ in range(rounds)]
                loops.append({"loop": name, "norm": norm, "precision": precision, "ms": statistics.median(taken)})
                print(f"{name:10} {norm:5} {precision:7} {statistics.median(taken):8.2f} ms a step")

    checks = []

    def check(what, holds, seen):
        checks.append([what, bool(holds), seen])
        print(f"{'ok    ' if holds else 'FAILED'} {what} ({seen})")

    few = min(steps, 60)
    twice = [ours("batch", steps=few).train_loss.item() for _ in range(2)]
    check("the same twice", twice[0] == twice[1], str(twice))
    watched = ours("batch", steps=few, record=[0, few // 2, few], probes=[Landscape((1, 2)), Moments()]).train_loss.iloc[-1]
    check("looks and probes do not disturb", abs(watched / twice[0] - 1) < 1e-4, f"{watched}, {twice[0]}")
    there = images(image, examples, "cpu")
    for name, probe in PROBES.items():
        for norm in ("none", "batch"):
            one, other = (ours(norm, steps=0, record=[0], probes=[probe()], on=on) for on in (data, there))
            numbers = [column for column in one.columns if one[column].dtype == float and one[column].notna().any()]
            far = max(np.nanmax(np.abs(one[column] - other[column])) / (np.nanmax(np.abs(other[column])) + 1e-12) for column in numbers)
            check(f"{name} on {norm}: as on the CPU", far < 0.02, f"at most {far:.2g} off")
    exact = ours("batch", steps=few)
    for precision in PRECISIONS[device][1:]:
        far = abs(ours("batch", precision, few).train_loss.item() / exact.train_loss.item() - 1)
        check(f"steps in {precision} are not in float32, and end near it", 0 < far < 0.3, f"last loss {far:.2g} off")
    if options.json:
        told = {"machine": torch.cuda.get_device_name() if device == "cuda" else platform.machine(), "torch": torch.__version__}
        options.json.write_text(json.dumps(told | {"loops": loops, "checks": checks}, indent=1))
    return 0 if all(holds for _, holds, _ in checks) else 1


if __name__ == "__main__":
    sys.exit(main())
