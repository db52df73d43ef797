# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""How attachctl ends."""

DONE = 0
FAILED = 1
BAD_INPUT = 2
#: There is no worker, it is not ready, or there is no bus.
NO_WORKER = 3


class Failed(Exception):
    """What keeps a command from being done.

    :param code: for programs: an error code of the contract, or one of
        ``bad_input``, ``no_worker``, ``not_found`` and ``interrupted``
    :param text: what is wrong, and what to do
    :param exit_code: of the command
    """

    def __init__(self, code: str, text: str, exit_code: int) -> None:
        super().__init__(text)
        self.code = code
        self.exit_code = exit_code


def bad_input(text: str) -> Failed:
    """Something is wrong with the command; found before the bus is used."""
    return Failed('bad_input', text, BAD_INPUT)
