"""`python -m ostler`: the command line."""

from ostler.cli import main

if __name__ == "__main__":
    main()
