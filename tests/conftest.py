"""Before torch is imported: one thread for every process of the tests, as a worker has."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
