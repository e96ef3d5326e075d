"""Several queues in one worker: which comes first?

    hotqueue-worker examples.several_queues                       all queues in turn
    hotqueue-worker examples.several_queues -Q urgent,bulk        bulk only while urgent is empty
    hotqueue-worker examples.several_queues -Q urgent=3,bulk=1    three urgent ones for each bulk one
    hotqueue-worker examples.several_queues -Q bulk               this worker serves bulk alone

`python -m examples.several_queues` fills both.
"""

from hotqueue import HotQueue

urgent = HotQueue("urgent")
bulk = HotQueue("bulk")


@urgent.worker
def page(name: str) -> None:
    print(f"urgent {name}")


@bulk.worker
def mail(name: str) -> None:
    print(f"bulk {name}")


if __name__ == "__main__":
    names = "Ada", "Barbara", "Grace", "Hedy", "Joan", "Radia"
    bulk.enqueue(*names)
    urgent.enqueue(*names)
