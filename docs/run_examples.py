"""Run the Python examples of Markdown pages, so that they cannot drift from the package.

The ``python`` blocks of a page run in order and share their names, as a reader would paste them.

Usage: python docs/run_examples.py PAGE ...
"""

import re
import sys
import warnings
from pathlib import Path

from sklearn.exceptions import ConvergenceWarning

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run(page: Path) -> int:
    text = page.read_text()
    names: dict[str, object] = {"__name__": "__main__"}
    blocks = list(BLOCK.finditer(text))
    for block in blocks:
        # Empty lines in front make a traceback name the line of the page.
        first_line = text.count("\n", 0, block.start(1))
        exec(compile("\n" * first_line + block[1], str(page), "exec"), names)
    return len(blocks)


if __name__ == "__main__":
    # An example that does not converge is not one to copy.
    warnings.simplefilter("error", ConvergenceWarning)
    for page in map(Path, sys.argv[1:]):
        print(f"{page}: {run(page)} examples", flush=True)
