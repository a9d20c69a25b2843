"""Noise of circuits: channels, models of uniform noise and of real machines, calibration snapshots, layouts."""

from quantum.noise.aer import to_aer
from quantum.noise.calibration import device_names, load_device
from quantum.noise.device import Device, PairCalibration, QubitCalibration
from quantum.noise.device_noise import DeviceNoise
from quantum.noise.layout import best_layout
from quantum.noise.model import NativeError, NoiseModel
from quantum.noise.uniform import UniformNoise

__all__ = [
    "Device",
    "DeviceNoise",
    "NativeError",
    "NoiseModel",
    "PairCalibration",
    "QubitCalibration",
    "UniformNoise",
    "best_layout",
    "device_names",
    "load_device",
    "to_aer",
]
