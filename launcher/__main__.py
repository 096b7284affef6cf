"""`python -m launcher`: what bin/up runs."""

import signal

# While it is only being imported, a Ctrl-C ends it without a word; `main` stops what it has started in order.
signal.signal(signal.SIGINT, signal.SIG_DFL)

from launcher.up import main  # noqa: E402

raise SystemExit(main())
