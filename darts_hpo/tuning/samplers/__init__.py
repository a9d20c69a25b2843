"""Who proposes points: one published method per file, each a :class:`~darts_hpo.tuning.samplers.base.Sampler`."""
