"""The libraries that our samplers are compared with, each in an environment of its own.

python -m benchmarks.hpo environments
"""

from __future__ import annotations

from benchmarks.environments import Peer

PEERS: dict[str, Peer] = {
    name: Peer(name, requirement, "benchmarks.hpo")
    for name, requirement in (("optuna", "optuna==5.0.0"), ("smac", "smac==2.4.1"), ("ax", "ax-platform==1.3.1"))
}
