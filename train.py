"""The one command: ``python train.py +experiment=NAME [group=option] [key=value]``."""

from darts_hpo.cli import main

if __name__ == "__main__":
    main()
