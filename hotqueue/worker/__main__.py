"""`python -m hotqueue.worker` is `hotqueue-worker`."""

from hotqueue.worker.start import main

main()
