"""A proxy before a server that answers late: so many ms before the first byte of each answer.

`python benchmarks/slow_answers.py PORT MILLISECONDS` prints the port it listens on, and serves
until its input ends. A process of its own: the reader that is measured has all of its own. What the
server has answered once comes from memory. All answers take the same time, and none is encrypted: a
store elsewhere is slower at times, and asks more of the reader's processor.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_OF_THE_MOMENT = (b"authorization:", b"x-amz-date:")

_LASTING = (b"HTTP/1.1 2", b"HTTP/1.1 404")
"""How answers begin that are no fault of the moment."""

_CLOSE = b"Connection: close\r\n"


@contextmanager
def answers_late(port: int, milliseconds: int) -> Iterator[int]:
    """Give the port of a proxy before that of a server on loopback."""
    command = [sys.executable, __file__, str(port), str(milliseconds)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("a process with pipes has them")
        yield int(process.stdout.readline())
        process.stdin.close()


class _Memory:
    """What a server answered to each request, by all of the request but its signature and time.

    The first time the server is asked. So one round without a clock leaves it out of all others:
    a store that is far away works on processors of its own.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._answers: dict[bytes, bytes] = {}

    async def answer(self, request: bytes) -> bytes:
        """Return a whole answer to a request without content."""
        known = b"\r\n".join(
            line for line in request.split(b"\r\n") if not line.lower().startswith(_OF_THE_MOMENT)
        )
        if known in self._answers:
            return self._answers[known]
        answer = await self._ask(request)
        if answer.startswith(_LASTING):
            self._answers[known] = answer
        return answer

    async def _ask(self, request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        # So the end of the answer is seen; the client's own connection stays.
        writer.write(request.removesuffix(b"\r\n") + _CLOSE + b"\r\n")
        answer = await reader.read()
        writer.close()
        return answer.replace(_CLOSE, b"", 1)


async def _serve(port: int, seconds: float) -> None:
    memory = _Memory(port)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                request = await reader.readuntil(b"\r\n\r\n")
                answer, _ = await asyncio.gather(memory.answer(request), asyncio.sleep(seconds))
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()  # the client has gone

    server = await asyncio.start_server(connected, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    os._exit(0)  # connections that clients keep need no farewell


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), int(sys.argv[2]) / 1e3))
