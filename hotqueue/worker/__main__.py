"""`python -m hotqueue.worker` is `hotqueue-worker`."""

from hotqueue.worker.cli import main

main()
