"""The bench in the pages: it trains, it judges, and where it cannot run the page is as it was without it."""

import json
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

BENCH = Path(__file__).parents[1] / "bench"
sys.path.append(str(BENCH))
from parity import package, rows_of  # noqa: E402

LANDING = "book/index.html"
# More than any sensible machine needs, and less than a bench that stands still.
PATIENCE = 120_000


def trained(page):
    page.wait_for_function("document.querySelector('.bench [role=status]')?.textContent.startsWith('Trained')", timeout=PATIENCE)


def test_four_networks_train_when_they_come_into_view_and_eight_more_seeds_give_a_verdict(open_page):
    page = open_page(LANDING)
    bench = page.locator(".bench")
    trained(page)
    assert not page.locator("figure.explore").is_visible(), "what the bench stands for is shown beside it"
    said = bench.locator("[role=status]").inner_text()
    assert all(name in said for name in ("plain", "batch norm", "noisy", "plain + noise"))
    assert bench.locator(".bench-name").count() == 8 and bench.locator("circle.bench-dot").count() == 4 * 32
    assert set(bench.locator(".bench-card").evaluate_all("all => all.map(card => card.dataset.verdict)")) == {"inconclusive"}

    bench.get_by_role("button", name="Eight more seeds").click()
    page.wait_for_function("document.querySelector('.bench [role=status]').textContent.startsWith('9 seeds')", timeout=PATIENCE)
    first = bench.locator(".bench-card").first
    assert first.get_attribute("data-verdict") == "supported" and "9 seeds" in first.inner_text()
    assert first.locator(".claim-picture").is_visible() and "NaN" not in bench.inner_text()
    assert not page.complaints


def test_every_control_answers_to_the_keyboard_and_a_rate_too_far_diverges_in_words(open_page):
    page = open_page(LANDING)
    bench = page.locator(".bench")
    trained(page)
    for label in ("training step", "layer shown", "noise, times the paper's", "learning rate", "hidden layers"):
        slider = bench.get_by_label(label)
        before = slider.get_attribute("aria-valuetext")
        slider.focus()
        page.keyboard.press("ArrowLeft")
        assert bench.get_by_label(label).get_attribute("aria-valuetext") != before
    trained(page)
    bench.get_by_label("learning rate").focus()
    page.keyboard.press("End")
    bench.get_by_role("radio", name="torch's default").check()
    trained(page)
    assert "NaN" not in bench.inner_html() and not page.complaints


def test_stop_leaves_what_is_there(open_page):
    page = open_page(LANDING)
    bench = page.locator(".bench")
    trained(page)
    bench.get_by_role("button", name="Eight more seeds").click()
    bench.get_by_role("button", name="Stop").click()
    assert bench.get_by_role("button", name="Stop").is_disabled()
    assert bench.get_by_role("button", name="Eight more seeds").is_enabled()
    assert not page.complaints


@pytest.mark.parametrize("lost", ["mount.js", "shake.js", "network.js", "worker.js", "digits.bin"])
def test_whatever_does_not_come_the_drawn_figure_is_there(chromium, site, lost):
    context = chromium.new_context(viewport={"width": 1300, "height": 900})
    page = context.new_page()
    page.route(f"**/bench/{lost}", lambda route: route.abort())
    page.goto(site + LANDING)
    page.locator("figure.explore").wait_for(state="visible", timeout=PATIENCE)
    if lost != "mount.js":
        assert "cannot run here" in page.locator(".bench").inner_text()
    context.close()


def test_without_scripts_and_on_paper_there_is_the_drawn_figure(chromium, site, open_page):
    page = open_page(LANDING)
    page.emulate_media(media="print")
    assert page.locator("figure.explore").is_visible() and not page.locator(".bench").is_visible()
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(site + LANDING)
    assert page.locator("figure.explore").is_visible()
    context.close()


def test_only_pages_with_a_bench_load_it(html):
    for page in html.rglob("*.html"):
        text = page.read_text("utf-8")
        assert ("bench/mount.js" in text) == ('class="bench"' in text), page


def test_it_weighs_little_and_never_holds_the_page_up(chromium, site):
    context = chromium.new_context(viewport={"width": 1300, "height": 900})
    page = context.new_page()
    page.add_init_script("""window.long = [];
      new PerformanceObserver(list => long.push(...list.getEntries().map(task => [task.startTime, task.duration]))).observe({ type: "longtask" })""")
    sizes = {}
    page.on("response", lambda got: sizes.update({got.url: len(got.body())}) if "/bench/" in got.url else None)
    page.goto(site + LANDING, wait_until="load")
    start = page.evaluate("performance.now()")
    trained(page)
    assert sum(sizes.values()) < 150_000, sizes
    # 50 ms on a machine of its own; here tests run beside it.
    assert not [task for task in page.evaluate("long") if task[0] > start and task[1] > 150]
    context.close()


def test_in_a_browser_a_training_is_that_of_the_package(chromium, site, monkeypatch):
    design = dict(norm="noisy_batch", init="default", layers=4, width=16, lr=0.1, batch=32, noise=1, steps=50, record=[0, 1, 25, 50])
    frame, _, given = package(design, seed=5, monkeypatch=monkeypatch)
    context = chromium.new_context()
    page = context.new_page()
    page.goto(site + LANDING)
    found = page.evaluate("""async ([repeat, told]) => {
      const from = (name) => import(new URL(`../_static/bench/${name}`, location));
      const [{ Run }, { digits }] = await Promise.all([from("train.js"), from("data.js")]);
      const module = await import(URL.createObjectURL(new Blob([repeat], { type: "text/javascript" })));
      return module.repeat(Run, await digits(), told);
    }""", [(BENCH / "repeat.js").read_text("utf-8"), {"design": design, "seed": 5, "given": given}])
    for mine, there in zip(rows_of(frame), found["rows"], strict=True):
        for name in ("train_loss", "train_accuracy", "loss_range", "beta", "mean_drift"):
            np.testing.assert_allclose(there[name], mine[name], rtol=1e-6)
    context.close()


def test_in_firefox(html, tmp_path, unavailable):
    """Nothing drives Debian's Firefox: a page of its own trains there, and posts what it saw."""
    import shutil

    firefox = shutil.which("firefox-esr") or shutil.which("firefox")
    if not firefox:
        unavailable("Firefox is not installed: apt-get install firefox-esr")
    script = """
      <div class="bench" data-bench="shake"></div>
      <script type="module">
        const tell = (what) => fetch("/told", { method: "POST", body: JSON.stringify(what) });
        addEventListener("error", (event) => tell({ problem: event.message }));
        addEventListener("unhandledrejection", (event) => tell({ problem: String(event.reason) }));
        new MutationObserver(() => {
          const bench = document.querySelector(".bench");
          const said = bench.querySelector("[role=status]")?.textContent ?? "";
          if (bench.classList.contains("failed")) tell({ problem: bench.textContent });
          if (said.startsWith("Trained")) tell({ said, dots: bench.querySelectorAll("circle.bench-dot").length, cards: bench.querySelectorAll(".bench-card").length });
        }).observe(document.body, { subtree: true, childList: true, attributes: true });
      </script>
      <script type="module" src="/_static/bench/mount.js"></script>"""
    told, heard = [], threading.Event()

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=html)

        def log_message(self, *args):
            pass

        def do_GET(self):
            if self.path != "/firefox":
                return super().do_GET()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(f"<!doctype html><body>{script}</body>".encode())

        def do_POST(self):
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()
            heard.set()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    browser = subprocess.Popen([firefox, "--headless", "--no-remote", "--profile", str(tmp_path), f"http://127.0.0.1:{server.server_port}/firefox"],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"})
    try:
        assert heard.wait(90), "Firefox said nothing"
    finally:
        browser.terminate()
        browser.wait(20)
        server.shutdown()
    assert "problem" not in told[0], told[0]
    assert told[0]["dots"] == 4 * 32 and told[0]["cards"] == 2 and "noisy" in told[0]["said"]
