"""Use of the API as a type checker sees it; after `# E:` stands what mypy must object to in that line."""

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any, assert_type

from hotqueue import Delivery, HotQueue, current
from hotqueue.handler import Handler

queue = HotQueue("numbers", url="redis://localhost")
HotQueue("numbers", "json", host="localhost", port=6379, db=0, unix_socket_path=None)
HotQueue()  # E: Missing positional argument "name"
HotQueue("numbers", url=6379)  # E: Argument "url" to "HotQueue" has incompatible type "int"
HotQueue("numbers", envelope="yes")  # E: Argument "envelope" to "HotQueue" has incompatible type "str"


@queue.worker
def square(n: int) -> int:
    return n * n


as_declared: Handler[[int], int] = square
assert_type(square(3), int)
square("3")  # E: Argument 1 to "__call__" of "Handler" has incompatible type "str"
square(1, 2)  # E: Too many arguments
square()  # E: Missing positional argument "n"
square.run()
square.run(timeout=1, block=False)
square.run(timeout="1")  # E: Argument "timeout" to "run" of "Handler" has incompatible type "str"
assert_type(square.send(3), str)
square.send(3, headers={"trace": 1})
square.send(3, headers=[1])  # E: Argument "headers" has incompatible type
assert_type(asyncio.run(square.asend(3, delay=1)), str)
square.delay(3)  # E: "Handler[[int], int]" has no attribute "delay"


@queue.worker(delivery="at-most-once", timeout=1.5, block=False)
def save(db: list[int], message: int) -> None:
    db.append(message)


with_a_database: Handler[[list[int], int], None] = save
save([], 1)
save([], message=1)
save.run([])


@queue.worker(delivery="exactly-once")  # E: No overload variant of "worker" of "HotQueue" matches
def wrong_delivery(message: int) -> None: ...


@queue.worker(retry=3)  # E: Unexpected keyword argument "retry" for overloaded function "worker"
def wrong_option(message: int) -> None: ...


class Mailer:
    @queue.worker
    def deliver(self, mail: str) -> bool:
        return bool(mail)

    @queue.worker(timeout=1)
    async def deliver_later(self, mail: str) -> bool:
        return bool(mail)


mailer = Mailer()
without_self: Handler[[str], bool] = mailer.deliver
assert_type(mailer.deliver("hello"), bool)
mailer.deliver(5)  # E: Argument 1 to "__call__" of "Handler" has incompatible type "int"
mailer.deliver.run()
assert_type(Mailer.deliver(mailer, "hello"), bool)


@queue.worker
async def fetch(url: str) -> bytes:
    return url.encode()


async def use() -> None:
    fetching: Coroutine[Any, Any, bytes] = fetch("a")
    assert_type(await fetching, bytes)
    assert_type(await mailer.deliver_later("a"), bool)


assert_type(queue.consume(timeout=1), Iterator[Any])
assert_type(len(queue), int)
queue.enqueue(1, "2", None)
value = queue.enqueue(1)  # E: "enqueue" of "HotQueue" does not return a value
queue.key = 5  # E: Incompatible types in assignment
queue.serializer = None

assert_type(current(), Delivery | None)
identity = current().id  # E: Item "None" of "Delivery | None" has no attribute "id"
