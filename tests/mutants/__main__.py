"""What `bin/test --mutants` runs."""

from __future__ import annotations

import sys

from tests.mutants.runner import chosen, examine_all

sys.exit(examine_all(chosen(sys.argv[1:])))
