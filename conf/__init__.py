"""Makes the configuration importable as a package, which Hydra asks of installed ones."""
