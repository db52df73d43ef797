# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""How Sphinx builds the documentation."""

from typing import Any

from docutils import nodes

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

templates_path = ['_templates']
html_theme = 'openstackdocs'
pygments_style = 'native'
#: Most blocks are commands and files: what is a program says so.
highlight_language = 'text'

openstackdocs_repo_name = 'attachworker'
openstackdocs_auto_name = False
openstackdocs_auto_version = False


def _align_tables(app: Any, doctree: nodes.document) -> None:
    """Have text in tables begin at the left: the theme would centre it."""
    for table in doctree.findall(nodes.table):
        table.setdefault('align', 'left')


def setup(app: Any) -> dict[str, bool]:
    app.connect('doctree-read', _align_tables)
    return {'parallel_read_safe': True}
