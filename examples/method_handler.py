"""A method as handler: the object is made once and holds what every message needs.

Run `hotqueue-worker examples.method_handler:mailer.deliver`, and `python -m examples.method_handler` to send.
"""

from hotqueue import HotQueue

queue = HotQueue("letters")


class Mailer:
    def __init__(self, sender: str) -> None:
        self.sender = sender

    @queue.worker
    def deliver(self, recipient: str) -> None:
        print(f"from {self.sender} to {recipient}")


mailer = Mailer("office@example.org")

if __name__ == "__main__":
    mailer.deliver.send("ada@example.org")
