"""Put what the quickstart prints now into README.md.

python scripts/quote_quickstart.py
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
COMMAND = [sys.executable, "-m", "servesim", "run", "scenarios/quickstart.yaml"]
QUOTE = re.compile(r"(<!-- quickstart output.*?-->\n\n```text\n)(.*?)(?=```\n)", re.DOTALL)


def main() -> None:
    """Run the quickstart and rewrite the block of README.md that quotes it."""
    printed = subprocess.run(COMMAND, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    text, count = QUOTE.subn(lambda match: match[1] + printed, README.read_text(encoding="utf-8"))
    if count != 1:
        raise SystemExit(f"README.md: {count} quotes of the quickstart's output. expected one")
    README.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
