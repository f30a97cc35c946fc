"""Replies are read as if an enemy had written them."""

import io
import json
import struct

import numpy as np
import pytest
import torch

from bncourse.grading.calls import Reply, describe
from bncourse.grading.shortcuts import Rules
from bncourse.grading.wire import ProtocolError, frame, frame_call, frame_reply, from_json, read_json, read_reply

GOOD = {"id": "x", "outcome": "returned", "values": [], "is_tuple": True, "inputs": [], "error": "", "text": "", "gradients": 0}
TENSOR = {"type": "tensor", "dtype": "float32", "shape": [2, 3], "data": True}


def nested(depth):
    return {"type": "list", "keys": [], "items": [nested(depth - 1)] if depth else []}


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
    frame(GOOD | {"values": [0] * 1001}),
    frame(GOOD | {"values": [2**63]}),
    frame(GOOD | {"values": [nested(9)]}),
    frame(GOOD | {"values": [{"type": "float", "plain": "nano"}]} | {"values": [{"type": "list"}]}),
    frame(GOOD | {"values": [{"type": "dict", "items": [1], "keys": []}]}),
    frame(GOOD | {"values": [{"type": "dict", "items": [1], "keys": [1]}]}),
    frame(GOOD | {"values": [TENSOR | {"shape": [-1, 3]}]}),
    frame(GOOD | {"values": [TENSOR | {"shape": [True]}]}),
    frame(GOOD | {"values": [TENSOR | {"shape": [2**39, 2**39]}]}),
    frame(GOOD | {"values": [TENSOR | {"shape": [1] * 9}]}),
    frame(GOOD | {"values": [TENSOR | {"dtype": "O"}]}),
    frame(GOOD | {"error": 3}),
    frame(GOOD | {"gradients": True}),
])  # fmt: skip
def test_a_malformed_reply_is_refused(data):
    with pytest.raises(ProtocolError):
        read(data)


def test_a_reply_arrives_as_it_left():
    x = torch.tensor([[1.0, float("nan")], [float("inf"), -2.0]], dtype=torch.float64)
    reply = read(frame_reply("x", Reply("returned", [describe(x), describe(None), describe(x.int())], True, [describe(x)])))
    assert np.array_equal(reply.values[0].array, x.numpy(), equal_nan=True)
    assert [v.type for v in reply.values] == ["tensor", "NoneType", "tensor"] and reply.values[2].dtype == "int32"


def test_numbers_words_lists_and_dicts_arrive_as_they_left():
    sent = {
        "a": [1, 2.5, True, None, "two\nlines"],
        "b": (float("inf"), torch.arange(3)),
        "c": {},
        "d": torch.tensor([True, False]),
    }
    got = read(frame_reply("x", Reply("returned", [describe(sent)]))).values[0].data()
    assert got["a"] == sent["a"] and [type(x) for x in got["a"]] == [type(x) for x in sent["a"]]
    assert got["b"][0] == float("inf") and torch.equal(got["b"][1], sent["b"][1]) and got["c"] == {}
    assert torch.equal(got["d"], sent["d"]) and got["d"].dtype == torch.bool


@pytest.mark.parametrize("odd", [2**80, object(), {1: 2}, lambda: 0, [[[[[[1]]]]]], 1j, float, {"x": object()}])
def test_what_is_not_plain_arrives_as_the_name_of_its_type(odd):
    with pytest.raises(TypeError):
        read(frame_reply("x", Reply("returned", [describe(odd)]))).values[0].data()


def test_text_from_a_worker_has_no_control_characters():
    reply = read(frame(GOOD | {"outcome": "raised", "is_tuple": False, "text": "\x1b[31m\nred" + "x" * 1000}))
    assert "\x1b" not in reply.text and "\n" not in reply.text and len(reply.text) == 300


def test_arguments_keep_values_types_and_strides():
    x = torch.randn(4, 3, 2, 5).contiguous(memory_format=torch.channels_last)
    y = torch.randn(3, 4, dtype=torch.float64).T
    stream = io.BytesIO(frame_call("x", "f", [x, y, 0.5, [x, {"k": y}, "w"], torch.arange(3)], 0, Rules()))
    message = json.loads(json.dumps(read_json(stream.read)))
    a, b, c, d, e = [from_json(item, stream.read) for item in message["args"]]
    assert torch.equal(a, x) and torch.equal(b, y) and c == 0.5 and torch.equal(e, torch.arange(3))
    assert torch.equal(d[0], x) and torch.equal(d[1]["k"], y) and d[2] == "w"
    assert (a.stride(), b.stride(), b.dtype) == (x.stride(), y.stride(), torch.float64)
