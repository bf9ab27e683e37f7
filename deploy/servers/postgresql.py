"""A PostgreSQL server, from the Debian package `postgresql`."""

import secrets
import signal
import subprocess
from pathlib import Path

from deploy.servers.accounts import private_directory, private_file, unprivileged
from deploy.servers.process import Server, ServerFailed, ServerProcess, find_program, free_ports

USER = "dagster"
DATABASE = "postgres"

_PACKAGE = "the Debian package postgresql"

_FAST_SHUTDOWN = signal.SIGINT
"""By SIGTERM it would wait for its clients to leave."""


class PostgresqlServer(Server):
    """A server on loopback; stopped and started again it has the same port and data.

    Parameters
    ----------
    directory : Path
        Of its data and its log; made where missing. Where we are root the server runs as another
        account, which must be able to pass through the directories above.

    Raises
    ------
    MissingProgram
        PostgreSQL is not installed.
    ServerFailed
        The data cannot be made.
    """

    def __init__(self, directory: Path) -> None:
        # Debian keeps them out of PATH, a directory a version.
        versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
        initdb, postgres, is_ready = (
            find_program(name, _PACKAGE, versions) for name in ("initdb", "postgres", "pg_isready")
        )
        (self.port,) = free_ports(1)
        self.password = secrets.token_hex(16)
        private_directory(directory)
        data = directory / "data"
        _make_data(initdb, data, private_file(directory / "password", self.password))
        self._ask = [is_ready, "--quiet", "--host=127.0.0.1", f"--port={self.port}"]
        process = ServerProcess(
            "PostgreSQL",
            [
                *(postgres, "-D", str(data), "-p", str(self.port)),
                *("-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="),
            ],
            directory / "postgresql.log",
            self._answers,
            user=unprivileged(),
            cwd=directory,
        )
        super().__init__(process)

    @property
    def variables(self) -> dict[str, str]:
        """The environment by which `deploy/dagster.yaml` finds it."""
        return {
            "ANEURYSM_POSTGRES_HOST": "127.0.0.1",
            "ANEURYSM_POSTGRES_PORT": str(self.port),
            "ANEURYSM_POSTGRES_DB": DATABASE,
            "ANEURYSM_POSTGRES_USER": USER,
            "ANEURYSM_POSTGRES_PASSWORD": self.password,
        }

    def stop(self) -> None:
        """End it without waiting for its clients; what was committed is on disk."""
        self._process.stop(by=_FAST_SHUTDOWN)

    def _answers(self) -> bool:
        return subprocess.run(self._ask, check=False).returncode == 0  # noqa: S603 - a program of PostgreSQL


def _make_data(initdb: str, data: Path, password: Path) -> None:
    made = subprocess.run(  # noqa: S603 - a program of PostgreSQL
        [
            *(initdb, f"--pgdata={data}", f"--username={USER}", f"--pwfile={password}"),
            *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"),
        ],
        check=False,
        capture_output=True,
        text=True,
        user=unprivileged(),
        cwd=data.parent,
    )
    password.unlink()
    if made.returncode:
        raise ServerFailed(f"PostgreSQL cannot make its data in {data}:\n{made.stderr}")
