"""A Redis server, from the Debian package `redis-server`: the queue of a cluster's runs."""

import secrets
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from deploy.servers.process import Server, ServerProcess, find_program, free_ports


class RedisServer(Server):
    """A server on loopback; stopped and started again it has the same port, data and queue.

    Parameters
    ----------
    directory : Path
        Of its data and its log; made where missing.

    Raises
    ------
    MissingProgram
        Redis is not installed.
    """

    def __init__(self, directory: Path) -> None:
        program = find_program("redis-server", "the Debian package redis-server")
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        (self.port,) = free_ports(1)
        self._password = secrets.token_hex(16)
        # In a file: what is in a command's arguments, everybody on the machine can read.
        configuration = directory / "redis.conf"
        configuration.touch(mode=0o600)
        configuration.write_text(
            f'bind 127.0.0.1\nport {self.port}\nrequirepass {self._password}\ndir "{directory}"\n'
            'appendonly yes\nappendfsync everysec\nsave ""\n'
        )
        process = ServerProcess(
            "Redis", [program, str(configuration)], directory / "redis.log", self._answers
        )
        super().__init__(process)

    @property
    def url(self) -> str:
        """Where it is, with its password."""
        return f"redis://:{self._password}@127.0.0.1:{self.port}/0"

    @property
    def variables(self) -> dict[str, str]:
        """The environment by which `deploy/dagster.yaml` finds it."""
        return {"ANEURYSM_REDIS_URL": self.url}

    def _answers(self) -> bool:
        try:
            with Redis.from_url(self.url, socket_timeout=1) as client:
                return bool(client.ping())
        except RedisError:
            return False
