"""An async handler: one message at a time, and within it as much at once as you like.

Run `hotqueue-worker examples.async_handler`, and `python -m examples.async_handler HOST:PORT ...` to have
ports looked at.
"""

import asyncio
import sys

from hotqueue import HotQueue

queue = HotQueue("ports")


@queue.worker
async def look(addresses: list[str]) -> None:
    found = await asyncio.gather(*map(is_open, addresses))
    for address, answers in zip(addresses, found, strict=True):
        print(f"{address} {'is open' if answers else 'does not answer'}")


async def is_open(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(3):
            _, writer = await asyncio.open_connection(host, int(port))
    except OSError:  # TimeoutError is one
        return False
    writer.close()
    await writer.wait_closed()
    return True


if __name__ == "__main__":
    queue.enqueue(sys.argv[1:])
