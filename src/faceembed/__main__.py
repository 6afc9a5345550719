"""`python -m faceembed` is the `faceembed` command."""

from faceembed.cli.start import main

if __name__ == "__main__":
    main()
