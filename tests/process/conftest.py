"""The fixtures of tests that run workers."""

from tests.support.shop import anywhere, delivery, parent, shop

__all__ = ["anywhere", "delivery", "parent", "shop"]
