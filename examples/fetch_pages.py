"""Pages fetched over HTTP, many at once in one process: nearly all of the time is waiting.

Run `hotqueue-worker examples.fetch_pages --tasks 50`, and `python -m examples.fetch_pages HOST:PORT/PATH ...`
to have pages fetched.
"""

import asyncio
import sys

from hotqueue import HotQueue

queue = HotQueue("pages")


@queue.worker(soft_time_limit=10, time_limit=30)
async def fetch(address: str) -> None:
    place, _, path = address.partition("/")
    host, _, port = place.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port or 80))
    try:
        writer.write(f"GET /{path} HTTP/1.0\r\nHost: {place}\r\n\r\n".encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    finally:  # also where the time is over, which comes as a cancellation
        writer.close()
    status = head.split()[1].decode()
    print(f"{address} {status} {len(body)} bytes")


if __name__ == "__main__":
    queue.enqueue(*sys.argv[1:])
