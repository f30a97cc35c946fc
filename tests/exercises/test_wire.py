"""Replies are read as if an enemy had written them."""

import io
import json
import struct

import numpy as np
import pytest
import torch

from bncourse.grading.calls import Reply, describe
from bncourse.grading.wire import ProtocolError, frame, frame_call, frame_reply, read_args, read_json, read_reply

GOOD = {"id": "x", "outcome": "returned", "values": [], "is_tuple": True, "inputs": [], "error": "", "text": ""}
TENSOR = {"type": "tensor", "dtype": "float32", "shape": [2, 3], "data": True}


def raw(head: bytes) -> bytes:
    return struct.pack(">I", len(head)) + head


def read(data: bytes):
    stream = io.BytesIO(data)
    return read_reply(read_json(stream.read), stream.read)


@pytest.mark.parametrize("data", [
    struct.pack(">I", 2**31),
    raw(b"{"),
    raw(b"[" * 50_000),
    raw(b"[]"),
    raw(b'{"id": NaN}'),
    raw(b"\xff\xfe"),
    frame({}),
    frame(GOOD | {"outcome": "full marks"}),
    frame(GOOD | {"is_tuple": 1}),
    frame(GOOD | {"is_tuple": False}),
    frame(GOOD | {"values": {}}),
    frame(GOOD | {"values": [[]]}),
    frame(GOOD | {"values": [TENSOR] * 17}),
    frame(GOOD | {"values": [TENSOR | {"shape": [-1, 3]}]}),
    frame(GOOD | {"values": [TENSOR | {"shape": [True]}]}),
    frame(GOOD | {"values": [TENSOR | {"shape": [2**39, 2**39]}]}),
    frame(GOOD | {"values": [TENSOR | {"shape": [1] * 9}]}),
    frame(GOOD | {"values": [TENSOR | {"dtype": "O"}]}),
    frame(GOOD | {"values": [TENSOR | {"type": "pickle"}]}),
    frame(GOOD | {"error": 3}),
])  # fmt: skip
def test_a_malformed_reply_is_refused(data):
    with pytest.raises(ProtocolError):
        read(data)


def test_a_reply_arrives_as_it_left():
    x = torch.tensor([[1.0, float("nan")], [float("inf"), -2.0]], dtype=torch.float64)
    reply = read(frame_reply("x", Reply("returned", [describe(x), describe(None), describe(x.int())], True, [describe(x)])))
    assert np.array_equal(reply.values[0].array, x.numpy(), equal_nan=True)
    assert [v.type for v in reply.values] == ["tensor", "NoneType", "tensor"] and reply.values[2].dtype == "int32"


def test_text_from_a_worker_has_no_control_characters():
    reply = read(frame(GOOD | {"outcome": "raised", "is_tuple": False, "text": "\x1b[31m\nred" + "x" * 1000}))
    assert "\x1b" not in reply.text and "\n" not in reply.text and len(reply.text) == 300


def test_arguments_keep_values_types_and_strides():
    x = torch.randn(4, 3, 2, 5).contiguous(memory_format=torch.channels_last)
    y = torch.randn(3, 4, dtype=torch.float64).T
    stream = io.BytesIO(frame_call("x", "f", [x, y, 0.5], 0))
    message = json.loads(json.dumps(read_json(stream.read)))
    a, b, c = read_args(message["args"], stream.read)
    assert torch.equal(a, x) and torch.equal(b, y) and c == 0.5
    assert (a.stride(), b.stride(), b.dtype) == (x.stride(), y.stride(), torch.float64)
