# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""How Sphinx builds the documentation."""

extensions = [
    'openstackdocstheme',
    'oslo_config.sphinxext',
    'cliff.sphinxext',
]

project = 'attachworker'
copyright = 'attachworker developers'
author = 'attachworker developers'

root_doc = 'index'
nitpicky = True
exclude_patterns: list[str] = []

#: Page, name, what it does, authors, section.
man_pages = [
    (
        'reference/attachctl',
        'attachctl',
        'attach volumes to a host, by its attachworker',
        [author],
        1,
    )
]

html_theme = 'openstackdocs'
pygments_style = 'native'

openstackdocs_repo_name = 'attachworker'
openstackdocs_auto_name = False
openstackdocs_auto_version = False
