"""YOLOv9's GELAN networks: blocks, graphs, searched cells and the detection head."""

from supernets.gelan.description import Description, available_networks, load_description
from supernets.gelan.graph import GelanNetwork, build_network
from supernets.gelan.options import BLOCK_OPTIONS, BlockOption
from supernets.gelan.supernet import GelanSupernet

__all__ = [
    "BLOCK_OPTIONS",
    "BlockOption",
    "Description",
    "GelanNetwork",
    "GelanSupernet",
    "available_networks",
    "build_network",
    "load_description",
]
