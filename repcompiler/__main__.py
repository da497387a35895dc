"""python -m repcompiler is repc."""

from repcompiler.cli import main

if __name__ == "__main__":
    main(prog_name="repc")
