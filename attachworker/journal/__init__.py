# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.


"""What was asked and what was promised: the only durable state.

The kernel is the truth about what is attached; the journal is the truth about
what was asked for, and about what on this host is ours.
"""

from attachworker.journal.claims import Claims
from attachworker.journal.database import Database
from attachworker.journal.ledger import Holdings
from attachworker.journal.ledger import Ledger
from attachworker.journal.reader import Reader
from attachworker.journal.records import AttachmentRecord
from attachworker.journal.records import Call
from attachworker.journal.records import Records
from attachworker.journal.records import RequestRecord
from attachworker.journal.secrets import Sealer
from attachworker.journal.secrets import if_without_secrets
from attachworker.journal.secrets import without_secrets

__all__ = [
    'AttachmentRecord',
    'Call',
    'Claims',
    'Database',
    'Holdings',
    'Ledger',
    'Reader',
    'Records',
    'RequestRecord',
    'Sealer',
    'if_without_secrets',
    'without_secrets',
]
