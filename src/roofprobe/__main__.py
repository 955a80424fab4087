"""``python -m roofprobe`` is the ``probe`` command."""

from roofprobe.cli import main

if __name__ == "__main__":
    main()
