"""``python -m darts_hpo`` is the same command line as ``train.py``."""

from darts_hpo.cli import main

if __name__ == "__main__":
    main()
