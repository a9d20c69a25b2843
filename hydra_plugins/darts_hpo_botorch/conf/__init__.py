"""Options of the groups ``hydra/sweeper``, ``hydra/sweeper/sampler``, ``.../scheduler`` and ``.../executor``."""
