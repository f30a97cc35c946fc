"""In which arithmetic a training step is done. What is measured of the network is always done in float32.

``float32``: 24 bits, also on a GPU, where torch by itself would round the inputs of convolutions. ``tf32``: on a GPU, products of
float32 numbers whose inputs are rounded to 11 bits; sums in float32. ``bf16``: matrix products and convolutions in bfloat16, 8
bits; weights, updates and losses stay float32."""

from contextlib import contextmanager, nullcontext

import torch

PRECISIONS = ("float32", "tf32", "bf16")


def check_precision(precision: str, device: torch.device) -> None:
    """Refuse (ValueError) a precision that there is not, or not on this device."""
    if precision not in PRECISIONS:
        raise ValueError(f"unknown precision {precision!r}; there are {', '.join(PRECISIONS)}")
    if precision == "tf32" and device.type != "cuda":
        raise ValueError(f'precision="tf32" is arithmetic of NVIDIA\'s GPUs, and the data are on {device}; use "float32"')


@contextmanager
def exactly(device: torch.device):
    """Inside, a GPU computes float32 as float32 and takes algorithms that give the same bits twice. A CPU does so anyway."""
    if device.type != "cuda":
        yield
        return
    deterministic, torch.backends.cudnn.deterministic = torch.backends.cudnn.deterministic, True
    try:
        with _products("ieee"):
            yield
    finally:
        torch.backends.cudnn.deterministic = deterministic


def rounded(precision: str):
    """The context of a step of training, forwards and backwards."""
    return _products("tf32") if precision == "tf32" else nullcontext()


def lower(precision: str, device: torch.device):
    """The context in which a step computes the outputs of its network. The way back takes the same types by itself."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


@contextmanager
def _products(precision: str):
    if hasattr(torch.backends.cuda.matmul, "fp32_precision"):
        # Recurrent networks are not trained here; torch asks that both switches of cuDNN say the same.
        places = torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn
        name, value = "fp32_precision", precision
    else:  # before torch 2.9
        places = torch.backends.cuda.matmul, torch.backends.cudnn
        name, value = "allow_tf32", precision == "tf32"
    before = [getattr(place, name) for place in places]
    try:
        for place in places:
            setattr(place, name, value)
        yield
    finally:
        for place, was in zip(places, before):
            setattr(place, name, was)
