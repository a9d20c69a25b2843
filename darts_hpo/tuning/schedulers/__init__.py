"""Who gives budgets: one method per file, each a :class:`~darts_hpo.tuning.schedulers.base.Scheduler`."""
