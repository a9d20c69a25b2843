"""Where Hydra finds the plugin's options."""

from __future__ import annotations

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin


class BotorchSearchPath(SearchPathPlugin):
    """Appends the plugin's configuration, so that the application's own files of the same name win."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Called by Hydra when an application starts."""
        search_path.append(provider="darts-hpo-botorch", path="pkg://hydra_plugins.darts_hpo_botorch.conf")
