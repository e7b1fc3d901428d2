"""Workers of these tests report their attempts often, so that what is cancelled hears of it soon."""

import os

os.environ.setdefault("BELUGAWF_TEST_LIVENESS", "2")
