"""Hello. Run `hotqueue-worker examples.hello`, and in another shell `python -m examples.hello`."""

from hotqueue import HotQueue

queue = HotQueue("greetings")


@queue.worker
def greet(name: str) -> None:
    print(f"Hello, {name}!")


if __name__ == "__main__":
    queue.enqueue("Ada", "Grace")
