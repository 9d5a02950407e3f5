"""`python -m plait`."""

import sys

try:
    from plait.cli.main import main

    main()
except KeyboardInterrupt:  # while modules are being read
    sys.exit(130)
