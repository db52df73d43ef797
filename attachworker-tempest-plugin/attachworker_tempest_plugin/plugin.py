# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What Tempest loads by the entry point tempest.test_plugins."""

import pathlib
from typing import Any

from oslo_config import cfg
from tempest import config
from tempest.test_discover import plugins

from attachworker_tempest_plugin import config as options


class AttachworkerTempestPlugin(plugins.TempestPlugin):
    """Scenarios of attachworker, and their options."""

    def load_tests(self) -> tuple[str, str]:
        """Return the directory of the tests, and the one above."""
        package = pathlib.Path(__file__).resolve().parent
        return str(package), str(package.parent)

    def register_opts(self, conf: cfg.ConfigOpts) -> None:
        """Register the options in tempest.conf."""
        conf.register_opt(options.service_option, 'service_available')
        config.register_opt_group(
            conf, options.attachworker_group, options.AttachworkerGroup
        )

    def get_opt_lists(self) -> list[tuple[str, list[Any]]]:
        """Return the options by group, for the sample file of Tempest."""
        return [
            ('service_available', [options.service_option]),
            (options.attachworker_group.name, options.AttachworkerGroup),
        ]
