"""A producer in an event loop: `python -m examples.async_producer` sends, and its clock goes on ticking."""

import asyncio

from hotqueue import HotQueue, NotSent

queue = HotQueue("readings", serializer="json")


async def report(sensor: str) -> None:
    for reading in range(3):
        try:
            await queue.asend({"sensor": sensor, "reading": reading}, expires=3600)
        except NotSent as error:
            print(f"{sensor}: {error}")


async def main() -> None:
    async with asyncio.TaskGroup() as group:
        for sensor in ("roof", "cellar", "garden"):
            group.create_task(report(sensor))
    print(await asyncio.to_thread(len, queue), "readings are waiting")


if __name__ == "__main__":
    asyncio.run(main())
