"""``python -m darts_hpo`` is the command ``darts-hpo``."""

from darts_hpo.cli import main

if __name__ == "__main__":
    main()
