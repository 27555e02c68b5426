"""``python -m servesim``: the command line."""

from servesim.cli import console

if __name__ == "__main__":
    console()
