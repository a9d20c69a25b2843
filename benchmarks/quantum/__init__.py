"""Our quantum engine beside TorchQuantum and PennyLane: time and memory of training steps."""
