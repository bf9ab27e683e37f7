"""A proxy before a server that answers late: so many ms before the first byte of each answer.

`python -m benchmarks.slow_answers PORT MILLISECONDS` prints the port it listens on, and serves
until its input ends. A process of its own: the reader that is measured has all of its own.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_AT_ONCE = 1 << 16


@contextmanager
def answers_late(port: int, milliseconds: int) -> Iterator[int]:
    """Give the port of a proxy before that of a server on loopback."""
    command = [sys.executable, "-m", "benchmarks.slow_answers", str(port), str(milliseconds)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("a process with pipes has them")
        yield int(process.stdout.readline())
        process.stdin.close()


async def _serve(port: int, seconds: float) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream, to_server = await asyncio.open_connection("127.0.0.1", port)
        asked = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_ask(reader, to_server, asked))
                both.create_task(_answer(upstream, writer, asked, seconds))
        except* ConnectionError:
            pass  # one side has gone
        finally:
            writer.close()
            to_server.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    os._exit(0)  # connections that clients keep need no farewell


async def _ask(
    reader: asyncio.StreamReader, to_server: asyncio.StreamWriter, asked: asyncio.Event
) -> None:
    while data := await reader.read(_AT_ONCE):
        asked.set()
        to_server.write(data)
        await to_server.drain()
    to_server.write_eof()


async def _answer(
    upstream: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    asked: asyncio.Event,
    seconds: float,
) -> None:
    while data := await upstream.read(_AT_ONCE):
        if asked.is_set():
            asked.clear()
            await asyncio.sleep(seconds)
        writer.write(data)
        await writer.drain()
    writer.write_eof()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), int(sys.argv[2]) / 1e3))
