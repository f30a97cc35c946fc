"""What the notebook of the capstone uses: the fingerprint of a registration, and arithmetic that rounds differently."""

import hashlib
import json

import torch
from torch.overrides import TorchFunctionMode

from ..checks import one_line

BLOCKS = {
    "words": ("claim", "measure", "unit"),
    "arms": ("arms",),
    "sign": ("sign",),
    "threshold": ("threshold",),
    "seeds": ("seeds", "pilot"),
}


def fingerprint(registration: dict) -> str:
    """Four hexadecimal digits for each of the `BLOCKS` of a registration, so that a changed one shows where it changed."""
    return "-".join(digest({name: plain(registration.get(name)) for name in names}) for names in BLOCKS.values())


def digest(part: dict) -> str:
    return hashlib.sha256(json.dumps(part, sort_keys=True).encode()).hexdigest()[:4]


def plain(value):
    """The same for 2 and 2.0, for lists and tuples, and however words are spaced."""
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return float(value) if type(value) in (int, float) else one_line(str(value))


class OtherRounding(TorchFunctionMode):
    """Inside, every product of matrices is off by about 1e-7 of itself, as it may be on another machine."""

    PRODUCTS = {"linear", "matmul", "__matmul__", "mm", "bmm", "addmm", "baddbmm", "einsum", "conv2d"}

    def __init__(self):
        super().__init__()
        self.generator = torch.Generator().manual_seed(0)  # not the global one: the experiment's own draws stay as they are

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if getattr(func, "__name__", "") not in self.PRODUCTS or not result.is_floating_point():
            return result
        return result * (1 + 1e-7 * torch.randn(result.shape, generator=self.generator).to(result))
