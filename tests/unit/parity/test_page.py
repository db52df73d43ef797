# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The documentation lists the differences that the parity suite allows."""

from tests.parity import page


def test_the_page_of_differences_is_that_of_the_table() -> None:
    assert page.PAGE.read_text() == page.text()
