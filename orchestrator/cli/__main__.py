"""`python -m orchestrator.cli` is `servetune`."""

import sys

from orchestrator.cli import main

sys.exit(main())
