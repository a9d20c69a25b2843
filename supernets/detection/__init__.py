"""Object detection: data, augmentation, label assignment, losses, metrics and drawing."""
