"""Messages between grader and worker, read as if an enemy had written them.

A frame is a 4-byte length, that much JSON, and the raw bytes of the arrays the JSON announces. Raw bytes rather than
`.npy`: a `.npy` header can announce an array far larger than its data; here shape and type are plain JSON, checked before
anything is allocated, and no pickle exists that could be loaded.
"""

import json
import math
import struct
from dataclasses import asdict

import numpy as np
import torch

from .calls import DEEPEST, DTYPES, LARGEST, LONGEST, MOST_ITEMS, Given, Reply, Value
from .shortcuts import Rules

LARGEST_JSON = 2**18
LARGEST_REPLY = 2**25  # bytes of all arrays of one reply together
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


def frame_call(ident: str, name: str, args: list, seed: int, rules: Rules) -> bytes:
    """A call. Arguments are tensors, numbers, strings, `Given` functions, and lists, tuples and dicts of them."""
    arrays = []
    described = [to_json(arg, arrays) for arg in args]
    request = {"do": "call", "id": ident, "name": name, "args": described, "seed": seed, "rules": asdict(rules)}
    return frame(request, arrays)


def to_json(arg, arrays: list):
    """`arg` as JSON; its tensors are appended to `arrays`. `order` restores strides: a transposed tensor arrives so."""
    if isinstance(arg, torch.Tensor):
        order = sorted(range(arg.dim()), key=lambda axis: -arg.stride(axis))
        array = arg.detach().permute(order).contiguous().numpy()
        arrays.append(array)
        return {"is": "tensor", "dtype": str(array.dtype), "shape": list(array.shape), "order": order}
    if isinstance(arg, (list, tuple)):
        return {"is": type(arg).__name__, "items": [to_json(item, arrays) for item in arg]}
    if isinstance(arg, dict):
        return {"is": "dict", "keys": list(arg), "items": [to_json(item, arrays) for item in arg.values()]}
    if isinstance(arg, Given):
        return {"is": "given", "of": [arg.exercise, arg.maker], "items": [to_json(item, arrays) for item in arg.args]}
    return arg


def from_json(item, read):
    """An argument of a call, in the worker."""
    if not isinstance(item, dict):
        return item
    if item["is"] == "tensor":
        dtype = DTYPES[item["dtype"]]
        data = bytearray(read(int(np.prod(item["shape"])) * dtype.itemsize))
        flat = torch.frombuffer(data, dtype=getattr(torch, item["dtype"])) if data else torch.empty(0, dtype=getattr(torch, item["dtype"]))
        back = [item["order"].index(axis) for axis in range(len(item["order"]))]
        return flat.reshape(item["shape"]).permute(back)
    items = [from_json(inner, read) for inner in item["items"]]
    if item["is"] == "given":
        return Given(*item["of"], tuple(items)).build()
    return {"list": list, "tuple": tuple, "dict": lambda items: dict(zip(item["keys"], items))}[item["is"]](items)


# ---- worker to grader: hostile ---------------------------------------------------------------------------------------


def frame_reply(ident: str, reply: Reply) -> bytes:
    arrays = []
    message = {
        "id": ident,
        "outcome": reply.outcome,
        "values": [about(v, arrays) for v in reply.values],
        "is_tuple": reply.is_tuple,
        "inputs": [about(v, arrays) for v in reply.inputs],
        "error": reply.error,
        "text": reply.text,
        "gradients": reply.gradients,
    }
    return frame(message, arrays)


def about(value: Value, arrays: list):
    """A value as JSON: a number, a string or null stands for itself, everything else is an object."""
    if value.type == "tensor":
        if value.array is not None:
            arrays.append(value.array)
        return {"type": "tensor", "dtype": value.dtype, "shape": list(value.shape), "data": value.array is not None}
    if value.type in ("list", "tuple", "dict"):
        return {"type": value.type, "items": [about(v, arrays) for v in value.items], "keys": list(value.keys)}
    if type(value.plain) is float and not math.isfinite(value.plain):
        return {"type": "float", "plain": str(value.plain)}  # JSON has no word for it
    return {"type": value.type} if value.plain is None and value.type != "NoneType" else value.plain


def read_reply(message: dict, read) -> Reply:
    """The reply whose JSON is `message`. Raises `ProtocolError` on anything that is not exactly as `frame_reply` sends."""
    if message.get("outcome") not in OUTCOMES or type(message.get("is_tuple")) is not bool:
        raise ProtocolError("a reply has no outcome")
    budget = [LARGEST_REPLY]
    values = [read_value(item, read, budget) for item in items(message, "values", MOST_ITEMS)]
    inputs = [read_value(item, read, budget) for item in items(message, "inputs", MOST_ITEMS)]
    if message["outcome"] == "returned" and not values and not message["is_tuple"]:
        raise ProtocolError("a reply returned nothing at all")
    if type(message.get("gradients")) is not int:
        raise ProtocolError("gradients are not counted")
    told = text(message, "error", 80), text(message, "text", 300)
    return Reply(message["outcome"], values, message["is_tuple"], inputs, *told, message["gradients"])


def items(message: dict, key: str, most: int) -> list:
    found = message.get(key)
    if not isinstance(found, list) or len(found) > most:
        raise ProtocolError(f"{key} is not a short list")
    return found


def text(message: dict, key: str, most: int) -> str:
    found = message.get(key)
    if not isinstance(found, str):
        raise ProtocolError(f"{key} is not text")
    return printable(found, most)


def printable(found: str, most: int, also: str = "") -> str:
    return "".join(c if c.isprintable() or c in also else " " for c in found[:most])


def read_value(item, read, budget: list[int], depth: int = 0) -> Value:
    if item is None or type(item) in (bool, float):
        return Value(type(item).__name__, plain=item)
    if type(item) is int and abs(item) < 2**63:
        return Value("int", plain=item)
    if type(item) is str:
        return Value("str", plain=printable(item, LONGEST, also="\n"))
    if not isinstance(item, dict) or depth > DEEPEST:
        raise ProtocolError("a value is not an object")
    kind = text(item, "type", 80)
    if kind == "tensor":
        return read_tensor(item, read, budget)
    if kind == "float" and item.get("plain") in ("nan", "inf", "-inf"):
        return Value("float", plain=float(item["plain"]))
    if kind not in ("list", "tuple", "dict"):
        return Value(kind)
    inner = [read_value(i, read, budget, depth + 1) for i in items(item, "items", MOST_ITEMS)]
    keys = items(item, "keys", MOST_ITEMS)
    if len(keys) != (len(inner) if kind == "dict" else 0) or any(type(key) is not str for key in keys):
        raise ProtocolError("a dict does not match its keys")
    return Value(kind, items=tuple(inner), keys=tuple(printable(key, 80) for key in keys))


def read_tensor(item: dict, read, budget: list[int]) -> Value:
    shape = items(item, "shape", 8)
    if any(type(n) is not int or not 0 <= n < 2**40 for n in shape):
        raise ProtocolError("a shape is not a list of lengths")
    dtype = text(item, "dtype", 20)
    if item.get("data") is not True:
        return Value("tensor (not dense, or too large)" if dtype in DTYPES else "tensor", dtype, tuple(shape))
    if dtype not in DTYPES:
        raise ProtocolError("a tensor of this type carries no data")
    count = 1
    for n in shape:  # Python's integers do not overflow, numpy's would
        count *= n
    size = count * DTYPES[dtype].itemsize
    budget[0] -= size
    if count > LARGEST or budget[0] < 0:
        raise ProtocolError("an array is too large")
    data = read(size)
    if dtype == "bool":
        data = bytes(byte != 0 for byte in data)
    return Value("tensor", dtype, tuple(shape), np.frombuffer(data, DTYPES[dtype]).reshape(shape).copy())
