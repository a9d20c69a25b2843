"""The engine's suite over GELAN supernets, cells without and with shared weights."""

from darts_hpo.testing import SupernetConformance
from supernets.gelan import GelanSupernet

OPTIONS = ["3x3_relu", "3x3_silu", "5x5_relu", "5x5_silu"]


def build(weight_sharing, network="gelan-c", searched=("backbone.p3", "neck.p5")):
    return GelanSupernet(
        network, 2, (3, 32, 32), searched=list(searched), options=OPTIONS, weight_sharing=weight_sharing, width=0.06
    )


class TestSeparateWeights(SupernetConformance):
    build, input_shape = staticmethod(lambda: build("none")), (3, 32, 32)


class TestEntangledWeights(SupernetConformance):
    build, input_shape = staticmethod(lambda: build("entangled")), (3, 32, 32)
    # The mixed kernels are kept beside the path's activations. They do not grow with the batch: 1.03 at batch 16
    # and 160 px (benchmarks/supernet), much beside the two small images used here.
    memory_ratio = 1.5


class TestTiedBlocks(SupernetConformance):
    build, input_shape = staticmethod(lambda: build("none", "yolov9-c", ["backbone.p4"])), (3, 32, 32)
