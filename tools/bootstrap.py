"""Makes `.venv` with everything that vidpipe needs, at the versions of constraints.txt.

Every file that is installed has one of the hashes there; nothing is built but vidpipe itself.
Run by `make` with the Python found or chosen there; needs nothing beside the standard library.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pinned

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
NEEDED_DISK_BYTES = 6_000_000_000
PREBUILT = ("--only-binary", ":all:")  # building a package would run its code, and fetch tools


def main() -> None:
    version = "{}.{}".format(*sys.version_info[:2])
    if version not in ("3.11", "3.12"):
        sys.exit(
            f"vidpipe needs Python 3.11 or 3.12. Received: {version} ({sys.executable}). "
            "Name one that fits: make PYTHON=/path/to/python3.12"
        )
    if not (importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip")):
        sys.exit(
            f"{sys.executable} has no venv module. Install it (Debian, Ubuntu: "
            f"python{version}-venv), or name another: make PYTHON=/path/to/python3.12"
        )
    try:
        needed_tools = pinned.list_hashes(pinned.BOOTSTRAP)
        needed_libraries = pinned.list_requirements("dev")
    except ValueError as error:
        sys.exit(f"Set-up stopped: {error}")
    if not VENV.exists():
        free_bytes = shutil.disk_usage(str(ROOT)).free
        if free_bytes < NEEDED_DISK_BYTES:
            sys.exit(
                f"The disk of {ROOT} is too full: set-up needs 6 GB, "
                f"{free_bytes / 1e9:.1f} GB are free. Make room and run it again."
            )
        print("First set-up: about 3 GB to download, unless they are in the package cache.")
    print(f"Setting up .venv with Python {version}", flush=True)
    same_python = (VENV / "lib" / ("python" + version)).is_dir()
    run(sys.executable, "-m", "venv", *([] if same_python else ["--clear"]), str(VENV))
    python = str(VENV / "bin" / "python")
    with tempfile.TemporaryDirectory(prefix="vidpipe-setup-") as folder:
        tools, libraries = Path(folder, "tools.txt"), Path(folder, "libraries.txt")
        tools.write_text("\n".join(needed_tools) + "\n")
        libraries.write_text("\n".join(needed_libraries) + "\n")
        run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
            "--no-deps", *PREBUILT, "--require-hashes", "--requirement", str(tools))  # fmt: skip
        uv = [python, "-m", "uv", "pip", "install"]
        env = {**os.environ, **uv_settings(python)}
        # What these require in turn is checked, too: constraints carry hashes.
        run(*uv, *PREBUILT, "--require-hashes", "--constraint", "constraints.txt",
            "--requirement", str(libraries), env=env)  # fmt: skip
    run(*uv, "--no-deps", "--no-build-isolation", "--editable", ".", env=env)


def uv_settings(python: str) -> dict[str, str]:
    """uv knows nothing of pip's configuration: a company's mirror and certificates go over."""
    found = {"UV_SYSTEM_CERTS": "1", "VIRTUAL_ENV": str(VENV), **cache_settings(python)}
    if "UV_DEFAULT_INDEX" not in os.environ:
        lines = subprocess.run(
            [python, "-m", "pip", "config", "list"], stdout=subprocess.PIPE, text=True, check=False
        ).stdout.splitlines()
        pip_config = dict(line.split("=", 1) for line in lines if "=" in line)
        for name in ("global.index-url", "install.index-url", ":env:.index-url"):
            if name in pip_config:
                found["UV_DEFAULT_INDEX"] = pip_config[name].strip("'")
    return found


def cache_settings(python: str) -> dict[str, str]:
    """Without a home folder that can be written, uv would end instead of doing without a cache."""
    uv_cache = [python, "-m", "uv", "cache", "dir"]
    folder = subprocess.run(uv_cache, stdout=subprocess.PIPE, text=True, check=False).stdout.strip()
    try:
        os.makedirs(folder, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError:
        writable = False
    return {} if writable else {"UV_NO_CACHE": "1"}


def run(*command: str, env: dict[str, str] | None = None) -> None:
    status = subprocess.run(command, cwd=str(ROOT), env=env, check=False).returncode
    if status:
        sys.exit(
            f"Set-up stopped: `{' '.join(command[1:5])}` ended with {status}, its own words stand "
            "above (versions that conflict may mean that no package index answers). "
            "Running it again goes on from here."
        )


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("Set-up was interrupted; running it again goes on from here.")
