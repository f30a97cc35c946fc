"""How fast is training on this machine, and does the fast step do what the plain one does? ``python tests/gpu/bench.py``

On a GPU: VGG-16 on images of CIFAR-10's size (random ones: nothing is downloaded, and speed does not depend on what is learnt),
batch 128. Compared, one after another and round after round, so that a warmer card slows all of them down:

- ``replayed``: ``train``, its step recorded as a CUDA graph and replayed;
- ``as it is``: the same step without a recording;
- ``eager loop``: what most reproductions do: model, ``torch.optim.SGD``, ``loss.item()`` at each step.

Told of each: milliseconds a step (median of the rounds), the share of the time in which the GPU had something to do, and peak
memory. Then checks that need a GPU: replayed and plain steps give the same frame, noise is fresh at each replay, looks do not
disturb, float32 is float32, and each precision is as far from float32 as it should be. On a CPU small networks go the same way
(without recordings and without shares), so that this script is known to run. Exit code 1 if a check fails.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).parents[2]))

from bncourse import nets  # noqa: E402
from bncourse.data import Data  # noqa: E402
from bncourse.precision import exactly, lower, rounded  # noqa: E402
from bncourse.probes.landscape import Landscape  # noqa: E402
from bncourse.probes.shift import Shift  # noqa: E402
from bncourse.train import batches, train  # noqa: E402


@dataclass(frozen=True)
class Setting:
    plan: str
    image: tuple[int, int, int]
    examples: int
    batch: int
    steps: int
    rounds: int


SETTINGS = {"cuda": Setting("16", (3, 32, 32), 50_000, 128, 300, 5), "cpu": Setting("small", (1, 8, 8), 256, 16, 12, 2)}
PRECISIONS = {"cuda": ("float32", "tf32", "bf16"), "cpu": ("float32", "bf16")}


def images(setting: Setting, device: str) -> Data:
    """Random images that carry their class in their mean, so that a network has something to learn."""
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(10, (setting.examples,), generator=generator)
    x = torch.randn(setting.examples, *setting.image, generator=generator) + 0.2 * (y[:, None, None, None] - 4.5)
    x, y = x.to(device), y.to(device)
    return Data("random images", x, y, x[:1000], y[:1000], classes=10)


def vgg(setting: Setting, norm: str):
    return lambda seed: nets.vgg(setting.image, 10, setting.plan, norm, "he", seed, fused=True)


def ours(data: Data, setting: Setting, norm: str, precision: str, capture: bool, steps: int) -> pd.DataFrame:
    return train(
        vgg(setting, norm),
        data,
        seeds=[0],
        lrs=[0.05],
        steps=steps,
        batch_size=setting.batch,
        record=[steps],
        test=False,
        precision=precision,
        capture=capture,
    )


def eager_loop(data: Data, setting: Setting, norm: str, precision: str, steps: int) -> float:
    """As most reproductions write it; the data are on the device already, which most of them do not do."""
    device = data.x_train.device
    model = vgg(setting, norm)(0).to(device).train()
    optimizer, order, total = torch.optim.SGD(model.parameters(), lr=0.05), batches(len(data.x_train), setting.batch, 0), 0.0
    with exactly(device):
        torch.backends.cudnn.deterministic = False  # As by default; ``exactly`` puts back what was.
        for _ in range(steps):
            index = next(order).to(device)
            x, y = data.x_train[index], data.y_train[index]
            with rounded(precision):
                with lower(precision, device):
                    outputs = model(x)
                loss = F.cross_entropy(outputs.float(), y)
                optimizer.zero_grad()
                loss.backward()
            optimizer.step()
            total += loss.item()
    return total / steps


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def seconds(do, device: str) -> float:
    synchronize(device)
    started = time.perf_counter()
    do()
    synchronize(device)
    return time.perf_counter() - started


def busy(do, device: str) -> float:
    """The share of the time in which the GPU worked: kernels of one stream do not overlap, so their times add up."""
    if device != "cuda":
        return float("nan")
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        taken = seconds(do, device)
    return sum(event.self_device_time_total for event in profiler.key_averages()) / 1e6 / taken


def peak_mib(do, device: str) -> float:
    if device != "cuda":
        return float("nan")
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    do()
    return torch.cuda.max_memory_allocated() / 2**20


def measure(data: Data, setting: Setting, device: str, norm: str, precision: str) -> pd.DataFrame:
    """A row for each of the three loops."""
    loops = {
        "replayed": lambda steps: ours(data, setting, norm, precision, True, steps),
        "as it is": lambda steps: ours(data, setting, norm, precision, False, steps),
        "eager loop": lambda steps: eager_loop(data, setting, norm, precision, steps),
    }
    # What does not grow with the steps (building, recording, looking) is taken off by timing two lengths.
    few, many = setting.steps // 3, setting.steps
    for do in loops.values():
        do(few)
    taken = {name: [] for name in loops}
    for number in range(setting.rounds):
        for name in list(loops)[:: 1 if number % 2 else -1]:
            short, long = (seconds(lambda: loops[name](steps), device) for steps in (few, many))
            taken[name].append(1e3 * (long - short) / (many - few))
    rows = [
        {
            "loop": name,
            "norm": norm,
            "precision": precision,
            "ms": statistics.median(taken[name]),
            "fastest": min(taken[name]),
            "slowest": max(taken[name]),
            "busy": busy(lambda: do(many), device),
            "peak_mib": peak_mib(lambda: do(few), device),
        }
        for name, do in loops.items()
    ]
    return pd.DataFrame(rows)


def checks(data: Data, setting: Setting, device: str) -> list[tuple[str, bool, str]]:
    """(what, whether it holds, what was seen)."""
    told, on_gpu = [], device == "cuda"

    def look(norm, capture, **more):
        steps = 60 if on_gpu else setting.steps
        return train(
            vgg(setting, norm),
            data,
            **dict(
                seeds=[0],
                lrs=[0.02],
                steps=steps,
                batch_size=setting.batch,
                test=False,
                record=[0, steps // 2, steps],
                capture=capture,
            )
            | more,
        )

    for norm in ("none", "batch", "noisy_batch", "layer", "l1", "weight"):
        replayed, plain = look(norm, True), look(norm, False)
        was = replayed.attrs.get("training", {}).get("replayed", "on a CPU")
        far = np.max(np.abs(replayed.train_loss / plain.train_loss - 1))
        # The noise of networks of mlp is drawn member by member, by numbers of Python's, which cannot be recorded.
        wanted = "on a CPU" if not on_gpu else "no: it asks" if norm == "noisy_batch" else "yes"
        told.append(
            (
                f"replayed and plain steps agree, {norm}",
                far < 1e-3 and was.startswith(wanted),
                f"losses differ by {far:.2g}, replayed: {was}",
            )
        )
    twice = [look("batch", True) for _ in range(2)]
    told.append(
        ("the same twice", twice[0].equals(twice[1]), f"{twice[0].train_loss.iloc[-1]!r}, {twice[1].train_loss.iloc[-1]!r}")
    )
    steps = 60 if on_gpu else setting.steps
    often = look("batch", True, record=sorted({0, steps // 4, steps // 2, steps}), probes=[Landscape((1, 2))])
    seldom = look("batch", True, record=[steps])
    far = abs(often.train_loss.iloc[-1] / seldom.train_loss.iloc[-1] - 1)
    told.append(("looks and probes do not disturb", far < 1e-4, f"the last losses differ by {far:.2g}"))
    told.append(fresh_noise(device))
    augmented = look("batch", True, augment="crop-flip"), look("batch", False, augment="crop-flip")
    far = np.max(np.abs(augmented[0].train_loss / augmented[1].train_loss - 1))
    told.append(("the same crops, replayed or not", far < 1e-3, f"losses differ by {far:.2g}"))
    exact = look("batch", True, probes=[Shift()])
    for precision in PRECISIONS[device][1:]:
        other = look("batch", True, precision=precision, probes=[Shift()])
        first = abs(other.train_loss.iloc[0] / exact.train_loss.iloc[0] - 1)
        layers = np.max(np.abs(other[other.step == 0].gradient_norm / exact[exact.step == 0].gradient_norm - 1))
        told.append(
            (
                f"looks and probes are in float32 when steps are in {precision}",
                first < 1e-5 and layers < 1e-3,
                f"loss at the start {first:.2g} off, gradients {layers:.2g}",
            )
        )
        far = abs(other.train_loss.iloc[-1] / exact.train_loss.iloc[-1] - 1)
        told.append((f"steps in {precision} are not in float32, and end near it", 0 < far < 0.3, f"last loss {far:.2g} off"))
    return told


def fresh_noise(device: str) -> tuple[str, bool, str]:
    """Replays of one recording draw other numbers each time."""
    from bncourse.capture import RECORDERS, WARM_UP, Replayed

    drawn = torch.zeros(4, device=device)
    step = lambda: drawn.copy_(torch.empty_like(drawn).uniform_())  # noqa: E731
    draw = Replayed(step, torch.nn.Linear(2, 2).to(device), RECORDERS["cuda"]) if device == "cuda" else step
    seen = set()
    for _ in range(WARM_UP + 5):
        draw()
        seen.add(tuple(drawn.tolist()))
    return "noise is fresh at each replay", len(seen) == WARM_UP + 5, f"{len(seen)} draws of {WARM_UP + 5} differ"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=list(SETTINGS), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path, help="write everything there as well")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch sees no GPU here; --device cpu goes the same way with small networks")
    if options.device == "cpu":
        torch.set_num_threads(1)
    setting, device = SETTINGS[options.device], options.device
    name = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()
    print(f"{name}, torch {torch.__version__}, VGG {setting.plan}, batch {setting.batch}, images {setting.image}")
    data = images(setting, device)
    table = pd.concat(
        [measure(data, setting, device, norm, precision) for norm in ("none", "batch") for precision in PRECISIONS[device]],
        ignore_index=True,
    )
    print(table.round(3).to_string(index=False))
    told = checks(data, setting, device)
    for what, holds, seen in told:
        print(f"{'ok    ' if holds else 'FAILED'} {what} ({seen})")
    if options.json:
        options.json.write_text(
            json.dumps(
                {
                    "machine": name,
                    "torch": torch.__version__,
                    "setting": vars(setting),
                    "loops": table.to_dict("records"),
                    "checks": [[what, bool(holds), seen] for what, holds, seen in told],
                },
                indent=1,
            )
        )
    return 0 if all(holds for _, holds, _ in told) else 1


if __name__ == "__main__":
    sys.exit(main())
