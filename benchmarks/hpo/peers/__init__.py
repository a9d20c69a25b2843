"""Programs that wrap one library each. They run in that library's own environment.

The harness starts them by path and speaks JSON lines with them; :mod:`benchmarks.hpo.peers.serve` is the protocol. All
but the wrapper of our own studies import nothing of ours.
"""
