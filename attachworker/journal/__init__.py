# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0


"""What was asked and what was promised: the only durable state.

The kernel is the truth about what is attached; the journal is the truth about
what was asked for, and about what on this host is ours.
"""

from attachworker.journal.attachments import AttachmentRecord
from attachworker.journal.attachments import AttachmentState
from attachworker.journal.database import Database
from attachworker.journal.database import Reader
from attachworker.journal.holdings import Holdings
from attachworker.journal.reading import DATA
from attachworker.journal.records import Call
from attachworker.journal.records import Contents
from attachworker.journal.records import Records
from attachworker.journal.records import RequestRecord
from attachworker.journal.secrets import Sealer
from attachworker.journal.secrets import if_without_secrets
from attachworker.journal.secrets import without_secrets
