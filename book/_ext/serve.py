"""Serve the built book on this machine only: `python book/_ext/serve.py [PORT]`."""

import functools
import sys
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HTML = Path(__file__).resolve().parents[2] / "_build" / "html"


def main(port):
    if not (HTML / "index.html").exists():
        sys.exit("There is no built book yet: run make book first.")
    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), functools.partial(SimpleHTTPRequestHandler, directory=HTML))
    except OSError as error:
        sys.exit(f"Port {port} cannot be used ({error.strerror}). Another one: make serve PORT={port % 65535 + 1}")
    print(f"The book is at http://127.0.0.1:{server.server_port}/ (Ctrl-C ends this)", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    wanted = sys.argv[1] if len(sys.argv) > 1 else "8000"
    if not (wanted.isdecimal() and int(wanted) < 65536):
        sys.exit(f"{wanted} is not a port number. For example: make serve PORT=8001")
    main(int(wanted))
