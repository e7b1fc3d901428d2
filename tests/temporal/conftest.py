"""Workers of these tests report often, so that an activity that is cancelled hears of it soon."""

import os

os.environ.setdefault("BELUGAWF_TEST_LIVENESS", "2")
