"""`python -m launcher`: what bin/up runs."""

from launcher.up import main

raise SystemExit(main())
