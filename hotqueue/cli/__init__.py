"""The ``hotqueue`` command: look at queues and operate them."""
