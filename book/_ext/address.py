"""Where the course is kept. pyproject.toml says it; whatever has to repeat it is rewritten from here.

python book/_ext/address.py               # the address, and the files that repeat it
python book/_ext/address.py OWNER/NAME    # for a fork: change it in all of them
"""

import argparse
import os
import re
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HOST = "https://github.com/"


def declared(root=ROOT):
    """The address in pyproject.toml."""
    return tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["urls"]["Repository"]


def of_this_build():
    """On GitHub Actions the repository the build runs in, which may be a fork; None anywhere else."""
    if repository := os.environ.get("GITHUB_REPOSITORY"):
        return f"{os.environ.get('GITHUB_SERVER_URL', HOST).rstrip('/')}/{repository}"
    return None


def site(address):
    """Where GitHub Pages publishes the book of a repository."""
    owner, name = address.rstrip("/").split("/")[-2:]
    return f"https://{owner.lower()}.github.io/{name}/"


def mentions(repository):
    """A pattern for OWNER/NAME as part of an address (also an encoded one), but not as part of a path on a disk."""
    owner, name = map(re.escape, repository.split("/"))
    site = r"(?:github|githubusercontent)\.com(?:/|:|%2F)|\.(?:com|org|io)/(?:v2/)?(?:github|gh)/"
    # The groups are what stays: all but the two names.
    return re.compile(rf"({site}){owner}(/|%2F){name}(?![\w-])|(//){owner}(\.github\.io/){name}(?![\w-])")


def texts(root=ROOT):
    """The text files of the course: whatever .gitignore does not leave out."""
    ignored = [".git", *(line.strip("/") for line in (root / ".gitignore").read_text("utf-8").split())]

    def ours(names):
        return sorted(name for name in names if not any(fnmatch(name, pattern) for pattern in ignored))

    for folder, folders, files in os.walk(root):
        folders[:] = ours(folders)  # where the walk goes on
        for path in (Path(folder, name) for name in ours(files)):
            try:
                yield path, path.read_bytes().decode("utf-8")
            except UnicodeDecodeError:
                continue  # a picture


def repeated(root=ROOT):
    """Every file that holds the address, with how often."""
    found = mentions(declared(root).removeprefix(HOST))
    return {path: count for path, text in texts(root) if (count := len(found.findall(text)))}


def change(new, root=ROOT):
    """Put another OWNER/NAME wherever the old one stands. Returns the files that changed."""
    owner, name = new.split("/")
    found = mentions(declared(root).removeprefix(HOST))

    def rewrite(match):
        before, between, slashes, pages = match.groups()
        return f"{before}{owner}{between}{name}" if before else f"{slashes}{owner}{pages}{name}"

    changed = []
    for path, text in texts(root):
        if (rewritten := found.sub(rewrite, text)) != text:
            path.write_bytes(rewritten.encode("utf-8"))
            changed.append(path)
    return changed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("new", nargs="?", metavar="OWNER/NAME", help="the repository the course shall be installed from")
    new = parser.parse_args().new
    if new is None:
        print(declared())
        for path, count in repeated().items():
            print(f"  {count} × {path.relative_to(ROOT)}")
        return
    if not re.fullmatch(r"[A-Za-z0-9][\w-]*/[\w.-]+", new, re.ASCII) or new.endswith(".git"):
        sys.exit(
            f"{new!r} is not OWNER/NAME, the last two parts of the address on GitHub: python book/_ext/address.py jane/bncourse"
        )
    changed = change(new)
    print(f"{declared()}: {len(changed)} files changed" if changed else f"{declared()}: nothing to change")


if __name__ == "__main__":
    main()
