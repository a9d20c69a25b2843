"""Differentiable architecture search with a Bayesian outer loop.

The engine knows no detector and no circuit: searchable networks live in ``supernets`` and ``quantum``
and are joined to it by configuration alone.
"""

__version__ = "0.1.0"
