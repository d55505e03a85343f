"""``python -m nightlab``: the command line, where its script is not on the PATH."""

from nightlab.cli.main import main

if __name__ == "__main__":
    main()
