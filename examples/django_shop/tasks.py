"""What the worker runs.

Start it by `DJANGO_SETTINGS_MODULE=examples.django_shop.settings hotqueue-worker examples.django_shop.tasks`.
"""

from django.db import close_old_connections

from examples.django_shop.models import Order
from hotqueue import HotQueue

queue = HotQueue("orders", serializer="json")


@queue.worker
def confirm(order_id: int) -> None:
    close_old_connections()  # as Django does before a request: the database may have ended the last one
    order = Order.objects.get(pk=order_id)
    order.is_confirmed = True
    order.save(update_fields=["is_confirmed"])
    print(f"{order} is confirmed")
