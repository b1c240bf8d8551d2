"""`python -m pytest_inferforge.cli`."""

import sys

from pytest_inferforge.cli import main

sys.exit(main())
