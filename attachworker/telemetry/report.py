# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The Guru Meditation Report: what the worker does just now, on SIGUSR2."""

from collections.abc import Callable
from collections.abc import Mapping
from importlib import metadata
import types
from typing import Any

from oslo_reports import guru_meditation_report
from oslo_reports.models import with_default_views

#: The name of a section, and what is in it.
Sections = Mapping[str, Callable[[], Mapping[str, Any]]]


_VERSION = types.SimpleNamespace(
    vendor_string=lambda: 'OpenStack',
    product_string=lambda: 'attachworker',
    version_string_with_package=lambda: metadata.version('attachworker'),
)


def write(sections: Sections, directory: str | None) -> None:
    """Write the report; threads, processes and options are in it, too.

    :param sections: ours; asked from the thread that calls
    :param directory: for a file of its own; None: standard error
    """

    class Report(guru_meditation_report.TextGuruMeditation):
        persistent_sections = [
            (title, _generator(look)) for title, look in sections.items()
        ]

    Report.handle_signal(_VERSION, 'attachworker', directory, None)


def _generator(look: Callable[[], Mapping[str, Any]]) -> Callable[[], Any]:
    def section() -> Any:
        try:
            found = dict(look())
        except OSError as error:
            found = {'cannot be read': str(error)}
        return with_default_views.ModelWithDefaultViews(found)

    return section
