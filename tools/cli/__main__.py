"""`python -m tools.cli`: the same as `portico`."""

from tools.cli import main

if __name__ == "__main__":
    main()
