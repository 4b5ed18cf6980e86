"""Makes `.venv` with everything that vidpipe needs, at the versions of constraints.txt.

Run by `make` with the Python found or chosen there; needs nothing beside the standard library.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
NEEDED_DISK_BYTES = 6_000_000_000


def main() -> None:
    version = "%d.%d" % sys.version_info[:2]
    if version not in ("3.11", "3.12"):
        sys.exit(
            "vidpipe needs Python 3.11 or 3.12. Received: %s (%s). "
            "Name one that fits: make PYTHON=/path/to/python3.12" % (version, sys.executable)
        )
    if not (importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip")):
        sys.exit(
            "This Python has no venv module: %s. Install it (Debian, Ubuntu: python%s-venv) or "
            "name another Python: make PYTHON=/path/to/python3.12" % (sys.executable, version)
        )
    if not VENV.exists():
        free_bytes = shutil.disk_usage(str(ROOT)).free
        if free_bytes < NEEDED_DISK_BYTES:
            sys.exit(
                "The disk of %s is too full: set-up needs 6 GB, %.1f GB are free. "
                "Make room and run it again." % (ROOT, free_bytes / 1e9)
            )
        print("First set-up: about 3 GB to download, unless they are in the package cache.")
    print("Setting up .venv with Python %s" % version, flush=True)
    same_python = (VENV / "lib" / ("python" + version)).is_dir()
    run(sys.executable, "-m", "venv", *([] if same_python else ["--clear"]), str(VENV))
    python = str(VENV / "bin" / "python")
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
        "--constraint", "constraints.txt", "uv")  # fmt: skip
    uv = [python, "-m", "uv", "pip", "install"]
    run(*uv, "--constraint", "constraints.txt", "--build-constraint", "constraints.txt",
        "--editable", ".[dev]", env={**os.environ, **uv_settings(python)})  # fmt: skip


def uv_settings(python: str) -> dict[str, str]:
    """uv knows nothing of pip's configuration: a company's mirror and certificates go over."""
    found = {"UV_SYSTEM_CERTS": "1", "VIRTUAL_ENV": str(VENV)}
    if "UV_DEFAULT_INDEX" not in os.environ:
        lines = subprocess.run(
            [python, "-m", "pip", "config", "list"], stdout=subprocess.PIPE, text=True, check=False
        ).stdout.splitlines()
        pip_config = dict(line.split("=", 1) for line in lines if "=" in line)
        for name in ("global.index-url", "install.index-url", ":env:.index-url"):
            if name in pip_config:
                found["UV_DEFAULT_INDEX"] = pip_config[name].strip("'")
    return found


def run(*command: str, env: dict[str, str] | None = None) -> None:
    status = subprocess.run(command, cwd=str(ROOT), env=env, check=False).returncode
    if status:
        sys.exit(
            "Set-up stopped: `%s` ended with %d, its own words stand above. "
            "Running it again goes on from here." % (" ".join(command[1:5]), status)
        )


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("Set-up was interrupted; running it again goes on from here.")
