"""What an architecture costs: measured for a module, expected under gates, exact for a genotype."""

from darts_hpo.costs.base import Cost, deployed
from darts_hpo.costs.flops import Flops
from darts_hpo.costs.latency import Latency
from darts_hpo.costs.model import CostModel, CostTerm
from darts_hpo.costs.parameters import Parameters
from darts_hpo.costs.penalty import CostPenalty

__all__ = ["Cost", "CostModel", "CostPenalty", "CostTerm", "Flops", "Latency", "Parameters", "deployed"]
