"""What a view would call."""

from django.db import transaction

from examples.django_shop.models import Order
from examples.django_shop.tasks import confirm


@transaction.atomic
def place_order(customer: str) -> Order:
    order = Order.objects.create(customer=customer)
    # Not before the order is committed: a quick worker would not find it, and if it is rolled back there is
    # nothing to confirm. The message is only the key: the handler reads what is true by then.
    transaction.on_commit(lambda: confirm.send(order.pk))
    return order
