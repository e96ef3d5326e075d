"""SQLAlchemy: each child has connections of its own, and each message a session.

Run `python -m examples.sqlalchemy_app Ada Grace`, then `hotqueue-worker examples.sqlalchemy_app`.
"""

import os
import sys

from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from hotqueue import HotQueue, hooks

engine = create_engine(os.environ.get("DATABASE_URL", "sqlite:///people.db"))
queue = HotQueue("people")


class Base(DeclarativeBase):
    pass


class Person(Base):
    __tablename__ = "people"

    name: Mapped[str] = mapped_column(primary_key=True)
    greetings: Mapped[int] = mapped_column(default=0)


@hooks.on_child_start
def forget_connections() -> None:
    engine.dispose(close=False)  # should the import have opened any, they are the importing process's


@hooks.on_child_stop
def close_connections() -> None:
    engine.dispose()


@queue.worker
def greet(name: str) -> None:
    with Session(engine) as session, session.begin():
        person = session.get_one(Person, name)
        person.greetings += 1
        print(f"Hello, {name}! That makes {person.greetings}.")


if __name__ == "__main__":
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add_all(Person(name=name) for name in sys.argv[1:])
    queue.enqueue(*sys.argv[1:])  # after the commit: a worker may be quicker than that
