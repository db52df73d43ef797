# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""A volume service: an image is copied to a volume of its own storage."""

from collections.abc import Iterator
import contextlib
import shutil
from typing import BinaryIO

from attachworker import client


@contextlib.contextmanager
def attached(
    worker: client.AttachWorkerClient, driver, volume
) -> Iterator[str]:
    """Have a volume on this host for a while; yields the device's path.

    :param worker: of this host
    :param driver: a volume driver, with Cinder's methods
    :param volume: what these take
    """
    connector = worker.get_connector_properties()
    info = driver.initialize_connection(volume, connector)
    attachment_id = f'copy-{volume["id"]}'
    try:
        result = worker.attach_volume(
            info, attachment_id=attachment_id, raise_on_failure=True
        )
        try:
            yield result.device.path
        finally:
            worker.detach_volume(attachment_id, raise_on_failure=True)
    finally:
        driver.terminate_connection(volume, connector)


def copy_image_to_volume(
    worker: client.AttachWorkerClient, driver, volume, image: BinaryIO
) -> None:
    """Write an image to a volume; the detach flushes what was written."""
    with attached(worker, driver, volume) as path, open(path, 'r+b') as disk:
        shutil.copyfileobj(image, disk)
