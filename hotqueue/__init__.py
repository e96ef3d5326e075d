"""HotQueue: a Redis list as a message queue."""

__version__ = "1.0.0"
