# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""How Sphinx builds the release notes."""

extensions = ['openstackdocstheme', 'reno.sphinxext']

project = 'attachworker release notes'
copyright = 'attachworker developers'
author = 'attachworker developers'

root_doc = 'index'

html_theme = 'openstackdocs'
pygments_style = 'native'

openstackdocs_repo_name = 'attachworker'
openstackdocs_auto_name = False
openstackdocs_auto_version = False
