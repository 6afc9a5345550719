"""`python -m faceembed` is the `faceembed` command."""

from faceembed.cli.main import main

if __name__ == "__main__":
    main()
