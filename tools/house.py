"""The limits that the project sets itself, and where they are broken: ``python -m tools.house``.

``python -m tools.house --prose README.md docs/model.md`` shows the long sentences of these pages only.
"""

import argparse
import sys
from pathlib import Path

from tools.prose import show_prose

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prose", nargs="+", type=Path, metavar="PAGE", help="show the long sentences of these pages")
    options = parser.parse_args()
    sys.exit(not show_prose(options.prose))
