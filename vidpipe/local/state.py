"""What the embedded stack remembers: ports, generated secrets, and what it started."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import secrets
import socket
from dataclasses import dataclass, field
from pathlib import Path

from vidpipe.config import require_own
from vidpipe.errors import TemporaryError, UsageError
from vidpipe.local import processes

HOST = "127.0.0.1"
SERVERS = ("s3", "mlflow", "airflow")


@dataclass
class StackState:
    """The content of `stack.json`, which only its owner can read.

    Attributes:
        root: Folder of the stack, absolute.
        ports: Port of each of `SERVERS`, which are parts too.
        processes: For each part that was started, its pid and when the system started it.
    """

    root: Path
    ports: dict[str, int] = field(default_factory=dict)
    processes: dict[str, tuple[int, float]] = field(default_factory=dict)
    s3_access_key_id: str = field(default_factory=lambda: secrets.token_hex(10), repr=False)
    s3_secret_access_key: str = field(default_factory=lambda: secrets.token_hex(20), repr=False)
    airflow_user: str = "admin"
    airflow_password: str = field(default_factory=lambda: secrets.token_urlsafe(12), repr=False)
    mlflow_user: str = "admin"
    mlflow_password: str = field(default_factory=lambda: secrets.token_urlsafe(12), repr=False)
    mlflow_secret: str = field(default_factory=lambda: secrets.token_urlsafe(64), repr=False)
    airflow_secret: str = field(default_factory=lambda: secrets.token_urlsafe(64), repr=False)
    airflow_fernet_key: str = field(
        default_factory=lambda: base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        repr=False,
    )

    @classmethod
    def load(cls, root: Path) -> StackState | None:
        """Reads the state of the stack in `root`; None where there never was one.

        Raises:
            UsageError: The file is damaged.
        """
        path = root / "stack.json"
        try:
            values = json.loads(path.read_text())
            values["processes"] = {name: tuple(v) for name, v in values["processes"].items()}
            return cls(root=root.resolve(), **values)
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"{path} is damaged: {error}. Run `vidpipe down`, then delete {path}."
            ) from error

    def save(self) -> None:
        """Writes `stack.json`, whole or not at all."""
        values = dataclasses.asdict(self)
        del values["root"]
        write_private(self.root / "stack.json", json.dumps(values, indent=2) + "\n")

    def url(self, server: str) -> str:
        """Address of one of `SERVERS`."""
        return f"http://{HOST}:{self.ports[server]}"


def load_running(root: Path) -> StackState:
    """The state of a stack that was started and not stopped.

    Raises:
        TemporaryError: There is none in `root`.
    """
    state = StackState.load(root)
    if state is None:
        raise TemporaryError(
            f"No stack was started in {root.resolve()}. If yours is elsewhere, change to its folder"
            " or set VIDPIPE_CONFIG to its .vidpipe/vidpipe.toml. Else start one here: vidpipe up"
        )
    if not state.processes:
        raise TemporaryError(f"No stack runs in {root.resolve()}. Start it: vidpipe up")
    return state


def require_running(root: Path, *parts: str) -> None:
    """Tells at once that parts do not run, where whoever asks them would have to wait to learn it.

    Args:
        root: Folder of the stack.
        parts: Those that are needed; none named: all.

    Raises:
        TemporaryError: One of them died, or the stack was never started.
    """
    state = load_running(root)
    died = [
        name
        for name, started in state.processes.items()
        if (not parts or name in parts) and not processes.is_alive(*started)
    ]
    if died:
        raise TemporaryError(
            f"{' and '.join(died)} died; {state.root / 'logs'} tells why. Start again: vidpipe up"
        )


def make_private_folder(root: Path) -> None:
    """Makes the folder of a stack, or takes one that nobody else could put anything into.

    Raises:
        UsageError: It belongs to another user, other users can write it, or it is no folder.
    """
    try:
        root.mkdir(mode=0o700)
    except FileExistsError:
        advice = "Move it away, and start again."
        if not root.is_dir():
            raise UsageError(f"{root.absolute()} is no folder. {advice}") from None
        require_own(root, root.lstat(), advice)
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            require_own(root, os.fstat(descriptor), advice)
            os.fchmod(descriptor, 0o700)
        finally:
            os.close(descriptor)


def write_private(path: Path, text: str) -> None:
    """Replaces a file in one step by one that only its owner can read."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    # A name that nobody could guess, and a file that nobody made before.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with os.fdopen(os.open(temporary, flags, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    temporary.replace(path)


def is_free(port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        # As servers do: a port whose connections are only winding down counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError):
            return False
    return True


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on, all different."""
    probes = [socket.create_server((HOST, 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports
