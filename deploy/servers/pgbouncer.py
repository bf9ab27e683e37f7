"""PgBouncer in front of a PostgreSQL server, from the Debian package `pgbouncer`."""

from pathlib import Path
from typing import Literal

from deploy.servers.accounts import private_directory, private_file, unprivileged
from deploy.servers.postgresql import USER, PostgresqlServer
from deploy.servers.process import Server, ServerProcess, answers, find_program, free_ports

_CONFIGURATION = """\
[databases]
* = host=127.0.0.1 port={postgres_port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {users}
pool_mode = {mode}
max_client_conn = 200
default_pool_size = 10
"""


class Pgbouncer(Server):
    """A pool of connections on loopback.

    Parameters
    ----------
    directory : Path
        Of its configuration and its log; as with `PostgresqlServer`.
    server : PostgresqlServer
        What it keeps connections to.
    mode : {"session", "transaction"}
        For how long a client has a connection of the pool.

    Raises
    ------
    MissingProgram
        PgBouncer is not installed.
    """

    def __init__(
        self, directory: Path, server: PostgresqlServer, mode: Literal["session", "transaction"]
    ) -> None:
        # Debian keeps it out of an ordinary user's PATH.
        program = find_program("pgbouncer", "the Debian package pgbouncer", [Path("/usr/sbin")])
        (self.port,) = free_ports(1)
        self._server = server
        private_directory(directory)
        users = private_file(directory / "users.txt", f'"{USER}" "{server.password}"\n')
        configuration = private_file(
            directory / "pgbouncer.ini",
            _CONFIGURATION.format(
                postgres_port=server.port,
                port=self.port,
                users=users,
                mode=mode,
            ),
        )
        process = ServerProcess(
            "PgBouncer",
            [program, str(configuration)],
            directory / "pgbouncer.log",
            lambda: answers(self.port),
            user=unprivileged(),
            cwd=directory,
        )
        super().__init__(process)

    @property
    def variables(self) -> dict[str, str]:
        """The environment by which `deploy/dagster.yaml` finds it, in place of the server's."""
        return self._server.variables | {"ANEURYSM_POSTGRES_PORT": str(self.port)}
