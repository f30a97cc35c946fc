"""Messages between grader and worker, read as if an enemy had written them.

A frame is a 4-byte length, that much JSON, and the raw bytes of the arrays the JSON announces. Raw bytes rather than
`.npy`: a `.npy` header can announce an array far larger than its data; here shape and type are plain JSON, checked before
anything is allocated, and no pickle exists that could be loaded.
"""

import json
import struct

import numpy as np
import torch

from .calls import LARGEST, Reply, Value

LARGEST_JSON = 2**18
LARGEST_REPLY = 2**25  # bytes of all arrays of one reply together
DTYPES = {"float32": np.dtype("<f4"), "float64": np.dtype("<f8")}
OUTCOMES = {"returned", "raised", "shortcut", "missing"}


class ProtocolError(Exception):
    """A reply that no honest worker sends."""


def frame(message: dict, arrays: list[np.ndarray] = ()) -> bytes:
    head = json.dumps(message).encode()
    return b"".join([struct.pack(">I", len(head)), head, *(np.ascontiguousarray(a).tobytes() for a in arrays)])


def read_json(read) -> dict:
    """The JSON of the next frame; `read(n)` returns exactly n bytes."""
    (length,) = struct.unpack(">I", read(4))
    if length > LARGEST_JSON:
        raise ProtocolError("a reply is too long")
    try:
        message = json.loads(read(length), parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("a reply is not JSON") from error
    if not isinstance(message, dict):
        raise ProtocolError("a reply is not an object")
    return message


def refuse(constant: str):
    raise ValueError(constant)


# ---- grader to worker: trusted ---------------------------------------------------------------------------------------


def frame_call(ident: str, name: str, args: list, seed: int) -> bytes:
    """A call with tensors and plain numbers as arguments. `order` restores the strides: a transposed tensor arrives so."""
    described, arrays = [], []
    for arg in args:
        if isinstance(arg, torch.Tensor):
            order = sorted(range(arg.dim()), key=lambda axis: -arg.stride(axis))
            array = arg.permute(order).contiguous().numpy()
            described.append({"dtype": str(array.dtype), "shape": list(array.shape), "order": order})
            arrays.append(array)
        else:
            described.append(arg)
    return frame({"do": "call", "id": ident, "name": name, "args": described, "seed": seed}, arrays)


def read_args(described: list, read) -> list:
    """The arguments of a call, in the worker."""
    args = []
    for item in described:
        if isinstance(item, dict):
            dtype = DTYPES[item["dtype"]]
            data = bytearray(read(int(np.prod(item["shape"])) * dtype.itemsize))
            tensor = torch.frombuffer(data, dtype=getattr(torch, item["dtype"])).reshape(item["shape"])
            back = [item["order"].index(axis) for axis in range(len(item["order"]))]
            item = tensor.permute(back)
        args.append(item)
    return args


# ---- worker to grader: hostile ---------------------------------------------------------------------------------------


def frame_reply(ident: str, reply: Reply) -> bytes:
    arrays = [v.array for v in reply.values + reply.inputs if v.array is not None]
    message = {
        "id": ident,
        "outcome": reply.outcome,
        "values": [about(v) for v in reply.values],
        "is_tuple": reply.is_tuple,
        "inputs": [about(v) for v in reply.inputs],
        "error": reply.error,
        "text": reply.text,
    }
    return frame(message, arrays)


def about(value: Value) -> dict:
    return {"type": value.type, "dtype": value.dtype, "shape": list(value.shape), "data": value.array is not None}


def read_reply(message: dict, read) -> Reply:
    """The reply whose JSON is `message`. Raises `ProtocolError` on anything that is not exactly as `frame_reply` sends."""
    if message.get("outcome") not in OUTCOMES or type(message.get("is_tuple")) is not bool:
        raise ProtocolError("a reply has no outcome")
    budget = [LARGEST_REPLY]
    values = [read_value(item, read, budget) for item in items(message, "values", 16)]
    inputs = [read_value(item, read, budget) for item in items(message, "inputs", 16)]
    if message["outcome"] == "returned" and not values and not message["is_tuple"]:
        raise ProtocolError("a reply returned nothing at all")
    return Reply(message["outcome"], values, message["is_tuple"], inputs, text(message, "error", 80), text(message, "text", 300))


def items(message: dict, key: str, most: int) -> list:
    found = message.get(key)
    if not isinstance(found, list) or len(found) > most:
        raise ProtocolError(f"{key} is not a short list")
    return found


def text(message: dict, key: str, most: int) -> str:
    found = message.get(key)
    if not isinstance(found, str):
        raise ProtocolError(f"{key} is not text")
    return "".join(c if c.isprintable() else " " for c in found[:most])


def read_value(item, read, budget: list[int]) -> Value:
    if not isinstance(item, dict):
        raise ProtocolError("a value is not an object")
    shape = items(item, "shape", 8)
    if any(type(n) is not int or not 0 <= n < 2**40 for n in shape):
        raise ProtocolError("a shape is not a list of lengths")
    kind, dtype = text(item, "type", 80), text(item, "dtype", 20)
    if item.get("data") is not True:
        return Value("tensor (not dense, or too large)" if kind == "tensor" and dtype in DTYPES else kind, dtype, tuple(shape))
    if kind != "tensor" or dtype not in DTYPES:
        raise ProtocolError("only float tensors carry data")
    count = 1
    for n in shape:  # Python's integers do not overflow, numpy's would
        count *= n
    size = count * DTYPES[dtype].itemsize
    budget[0] -= size
    if count > LARGEST or budget[0] < 0:
        raise ProtocolError("an array is too large")
    return Value(kind, dtype, tuple(shape), np.frombuffer(read(size), DTYPES[dtype]).reshape(shape).copy())
