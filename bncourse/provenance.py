"""Where numbers come from: the commit of the code that computed them, the machine, and the memory they took."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pandas as pd

PACKAGE = Path(__file__).resolve().parent


def checkout_around(folder: Path) -> Path | None:
    """The checkout of the course that a folder is in, or None. It need not be the one whose package is imported."""
    folder = Path(folder).resolve()
    return next((each for each in (folder, *folder.parents)
                 if (each / "bncourse" / "__init__.py").is_file() and (each / "_toc.yml").is_file()), None)


def machine(device: str) -> dict:
    """Hardware and versions of this process, for a provenance."""
    import numpy
    import sklearn
    import torch
    hardware = {"cpu": _processor(), "cores": os.cpu_count(), "system": f"{platform.system()} {platform.machine()}"}
    versions = {"python": platform.python_version(), "torch": torch.__version__, "numpy": numpy.__version__,
                "pandas": pd.__version__, "scikit-learn": sklearn.__version__}
    if device == "cuda":
        hardware["gpu"] = torch.cuda.get_device_name()
        versions |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    return {"hardware": hardware, "versions": versions}


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def commit() -> tuple[str, bool]:
    """The commit of this checkout, and whether the package differs from it; ("unknown", True) outside a checkout."""
    # In a hook git names its own repository in the environment.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}

    def git(*arguments):
        return subprocess.run(["git", *arguments], cwd=PACKAGE, env=environment, capture_output=True, encoding="utf-8",
                              errors="replace", check=True).stdout
    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # installed below somebody else's repository, it has no commit of that
        return git("rev-parse", "HEAD").strip(), bool(git("status", "--porcelain", "--", ".").strip())
    except (OSError, subprocess.CalledProcessError):
        return "unknown", True


def peak_memory(device: str) -> float:
    """MiB: of the GPU since it was last reset; else of this process so far, NaN where the system does not say."""
    if device == "cuda":
        import torch
        return torch.cuda.max_memory_allocated() / 2**20
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
