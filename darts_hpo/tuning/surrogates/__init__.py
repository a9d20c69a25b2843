"""Probabilistic models of what a trial is worth, fitted to the results so far."""
