# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Names that the host and its guests share."""

#: The disk of the host, an image.
DISK = 'disk.ext4'
#: There once the power may be cut; what a caller was told right before that.
READY = 'ready'
