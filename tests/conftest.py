"""Before torch is imported: one thread for every process of the tests, as a worker has; and Ctrl-C as in a terminal."""

import os
import signal

os.environ.setdefault("OMP_NUM_THREADS", "1")
# A shell starts what runs in the background with SIGINT ignored, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
