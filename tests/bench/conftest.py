"""The folder of a bench as it is published, and node to run its modules."""

import json
import shutil
import subprocess
from pathlib import Path

import benches
import pytest


BEFORE = """
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { unpacked } from "./data.js";
import { Run } from "./train.js";
const told = JSON.parse(readFileSync(0));
const data = unpacked(new Uint8Array(gunzipSync(readFileSync("digits.bin"))));
let answer;
"""
AFTER = "\nconsole.log(JSON.stringify(answer));"


@pytest.fixture(scope="session")
def bench(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site") / "bench"
    benches.furnish(folder)
    (folder / "package.json").write_text('{"type": "module"}')  # node asks how to read .js
    shutil.copy(Path(__file__).with_name("repeat.js"), folder)
    return folder


@pytest.fixture(scope="session")
def node(bench, unavailable):
    """Run the text of a module that imports from the bench: `data` is there, and `told`; what it assigns to `answer` comes back."""
    if not shutil.which("node"):
        unavailable("node is not installed: apt-get install nodejs")

    def run(text, told=None):
        file = bench / "asked.mjs"
        file.write_text(BEFORE + text + AFTER, "utf-8")
        done = subprocess.run(["node", str(file)], input=json.dumps(told), capture_output=True, encoding="utf-8", cwd=bench)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run
