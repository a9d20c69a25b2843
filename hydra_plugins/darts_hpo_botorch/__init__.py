"""Bayesian optimization behind Hydra's multirun: ``hydra/sweeper=botorch`` tunes any Hydra application.

Hydra imports every module here whose name does not begin with an underscore whenever any Hydra application starts:
those import nothing heavy.
"""
