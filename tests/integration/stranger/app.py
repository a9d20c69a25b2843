"""Somebody else's Hydra application: it has never heard of us."""

import hydra
from omegaconf import DictConfig


@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(cfg: DictConfig) -> float:
    return -((cfg.x - 0.3) ** 2) - abs(cfg.optimizer.momentum - 0.5)


if __name__ == "__main__":
    main()
