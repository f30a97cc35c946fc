"""What the course's processes get of the surroundings they are started in.

A variable that somebody set for another purpose (a PYTHONSTARTUP, a matplotlibrc with LaTeX, MKL_VERBOSE) would change what
stands on a page, or stop it from being built. So a kernel gets where things are, and nothing of how they behave.
"""

import os
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Where the user, the system's programs and libraries, temporary files, data, GPU and network are.
KEPT = set(
    "HOME USER LOGNAME PATH LD_LIBRARY_PATH DYLD_LIBRARY_PATH DYLD_FALLBACK_LIBRARY_PATH TMPDIR TEMP TMP XDG_CACHE_HOME "
    "USERPROFILE APPDATA LOCALAPPDATA PROGRAMDATA PROGRAMFILES SYSTEMROOT SYSTEMDRIVE WINDIR COMSPEC PATHEXT "
    "PYTHONNOUSERSITE PYTHONPYCACHEPREFIX PYTHONDONTWRITEBYTECODE VIRTUAL_ENV BNCOURSE_DATA CUDA_VISIBLE_DEVICES "
    "HTTP_PROXY HTTPS_PROXY NO_PROXY ALL_PROXY SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE "
    "CI GITHUB_REPOSITORY GITHUB_SERVER_URL".split()
)


def environment(root=ROOT, kept=()):
    """The environment of a kernel whose `bncourse` is that of this checkout. `kept`: what else it may have, by how the names
    begin."""
    own = root / "_build"
    clean = {name: value for name, value in os.environ.items() if name.upper() in KEPT or name.startswith(tuple(kept))}
    return clean | {
        "PYTHONPATH": str(root),  # before any other bncourse that is installed
        "PYTHONUTF8": "1",
        "PYTHONHASHSEED": "0",
        "LC_ALL": "C.UTF-8",
        "OMP_NUM_THREADS": "1",  # the parallelism is over chapters
        "JUPYTER_PATH": str(Path(sys.prefix) / "share" / "jupyter"),
        "JUPYTER_PREFER_ENV_PATH": "1",
        "JUPYTER_CONFIG_DIR": str(own / ".jupyter"),
        "JUPYTER_DATA_DIR": str(own / ".jupyter"),
        "JUPYTER_RUNTIME_DIR": str(own / ".jupyter" / "runtime"),
        "IPYTHONDIR": str(own / ".ipython"),
        "MPLCONFIGDIR": str(own / ".matplotlib"),
    }


def unsuitable(root=ROOT):
    """Why this checkout cannot use its own package, as a sentence; None where it can."""
    if os.pathsep in str(root):
        return f"the folder {root} has a {os.pathsep!r} in its name, which separates folders in PYTHONPATH; rename it"
    hiding = [path.name for path in root.glob("*.py") if path.stem in sys.stdlib_module_names or _installed(path.stem)]
    if hiding:
        return f"{', '.join(hiding)} in {root} would be imported in place of the module of that name; rename or delete it"
    return None


def _installed(name):
    return any((Path(folder) / name).is_dir() for folder in sys.path if Path(folder).name.endswith("-packages"))


PROOF = """
import sys, matplotlib.font_manager, bncourse
from pathlib import Path
root = Path(sys.argv[1])
if Path(bncourse.__file__ or "nothing") != root / "bncourse" / "__init__.py":
    sys.exit(f"a chapter would import {bncourse.__file__}, and not {root / 'bncourse'}, the package of this checkout")
if Path(matplotlib.matplotlib_fname()).parent == Path():
    sys.exit("book/matplotlibrc would change every figure of the book; delete it")
"""


def prove(environment, root=ROOT):
    """Import the package as a kernel would. Returns what is wrong, None if nothing is.

    It imports matplotlib, too: the first time that takes seconds to look for fonts, and says so on stderr, where a chapter
    must not say anything.
    """
    done = subprocess.run(
        [sys.executable, "-c", PROOF, str(root)],
        cwd=root / "book",
        env=environment | {"PYTHONSAFEPATH": "1"},
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )
    return done.stderr.strip() if done.returncode else None


def tracked(pattern, root=ROOT):
    """The files of the course that match, like `book/*.ipynb` (a * takes any folders, too): what git keeps, and not what else
    an editor left there. Without git, what is there."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, check=True).stdout
        names = [os.fsdecode(name) for name in listed.split(b"\0") if name]
    except (OSError, subprocess.CalledProcessError):
        names = []
    if not names:
        for folder, folders, files in os.walk(root):
            folders[:] = [name for name in folders if not name.startswith((".", "_build", "__pycache__"))]
            names += [Path(folder, name).relative_to(root).as_posix() for name in files]
    return sorted(root / name for name in names if fnmatchcase(name, pattern) and (root / name).is_file())
