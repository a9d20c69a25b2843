"""Who computes a case: one module each, with a function ``prepare`` that makes the training step.

``prepare(case, numbers)`` returns a function without arguments that does a forward and a backward pass and returns a
:class:`~benchmarks.quantum.cases.Step`. Every call encodes the samples anew, as it is with a new batch.
"""
