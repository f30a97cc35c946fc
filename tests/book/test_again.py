"""The book itself, built a second time and served a second time."""

import socket

from test_build import ROOT, serve


def test_nothing_changed_nothing_executed(build, run_build):
    again = run_build()
    assert again.code == 0, again.said
    assert again.timings["executed"] == []
    assert set(again.timings["chapters"]) == set(build.timings["chapters"])
    # 20 s on a quiet machine; other tests run beside this one.
    assert again.timings["execute"] + again.timings["build"] < 60


def test_port_in_use(build):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = serve(ROOT, str(port))
    assert done.returncode != 0
    assert f"Port {port}" in done.stderr and f"make serve PORT={port + 1}" in done.stderr
    assert len(done.stderr.splitlines()) == 1
