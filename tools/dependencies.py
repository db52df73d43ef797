# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""What the worker is made of: the packages that it runs with, and their terms.

``python -m tools.dependencies`` writes the table of licences for the
documentation; a test sees that it is fresh. ``python -m tools.dependencies
WHEEL SBOM`` writes the bill of materials of a wheel, as CycloneDX has it.
"""

from collections.abc import Iterator
import hashlib
from importlib import metadata
import pathlib
import sys

from cyclonedx.contrib.hash import factories as hashes
from cyclonedx.contrib.license import factories as licences
from cyclonedx.model import bom
from cyclonedx.model import component as components
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat
from cyclonedx.schema import SchemaVersion
from packageurl import PackageURL
from packaging import requirements
from packaging import utils

PROJECT = 'attachworker'
TABLE = (
    pathlib.Path(__file__).resolve().parents[1]
    / 'doc/source/contributor/licences.inc'
)
#: The terms of those that name them in words of their own.
_SPDX = {
    'Apache 2.0': 'Apache-2.0',
    'Apache Software License': 'Apache-2.0',
    'BSD': 'BSD-3-Clause',
    'BSD License': 'BSD-3-Clause',
    'MIT License': 'MIT',
}


def needed() -> dict[str, metadata.Distribution]:
    """The packages that are installed for the worker, by canonical name.

    What its extras take is not among them.
    """
    found: dict[str, metadata.Distribution] = {}
    todo = [(PROJECT, frozenset[str]())]
    seen = set()
    while todo:
        one = todo.pop()
        if one in seen:
            continue
        seen.add(one)
        name, extras = one
        found[name] = metadata.distribution(name)
        todo += [
            (utils.canonicalize_name(each.name), frozenset(each.extras))
            for each in _required(found[name], extras)
        ]
    return dict(sorted(found.items()))


def _required(
    package: metadata.Distribution, extras: frozenset[str]
) -> Iterator[requirements.Requirement]:
    for text in package.requires or ():
        one = requirements.Requirement(text)
        if one.marker is None or any(
            one.marker.evaluate({'extra': extra}) for extra in ('', *extras)
        ):
            yield one


def licence(package: metadata.Distribution) -> str:
    """The terms of a package, as an expression of SPDX where it has one."""
    told = package.metadata
    expression = told.get('License-Expression') or told.get('License')
    if not expression or '\n' in expression:
        (expression, *_) = [
            line.rpartition(' :: ')[2]
            for line in told.get_all('Classifier') or ()
            if line.startswith('License :: ')
        ] or ['unknown']
    return _SPDX.get(expression, expression)


def table() -> str:
    """The table of the documentation; versions are in constraints.txt."""
    rows = [
        (package.metadata['Name'], licence(package))
        for name, package in needed().items()
        if name != PROJECT
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    line = ' '.join('=' * width for width in widths)
    lines = [
        f'{name:{widths[0]}} {terms}'
        for name, terms in [('package', 'licence'), *rows]
    ]
    return '\n'.join([line, lines[0], line, *lines[1:], line, ''])


def sbom(wheel: pathlib.Path) -> str:
    """The bill of materials of a wheel, in JSON."""
    found = needed()
    made = {name: _component(one) for name, one in found.items()}
    itself = made.pop(PROJECT)
    itself.type = components.ComponentType.APPLICATION
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    factory = hashes.HashTypeFactory()
    itself.hashes.add(factory.from_hashlib_alg('sha256', digest))
    whole = bom.Bom(components=made.values())
    whole.metadata.component = itself
    for name, package in found.items():
        names = {
            utils.canonicalize_name(one.name)
            for one in _required(package, frozenset())
        }
        whole.register_dependency(
            made.get(name, itself),
            [made[one] for one in sorted(names & made.keys())],
        )
    outputter = make_outputter(whole, OutputFormat.JSON, SchemaVersion.V1_6)
    return outputter.output_as_string(indent=2) + '\n'


def _component(package: metadata.Distribution) -> components.Component:
    name = utils.canonicalize_name(package.metadata['Name'])
    url = PackageURL('pypi', name=name, version=package.version)
    terms = licences.LicenseFactory().make_from_string(licence(package))
    return components.Component(
        name=name,
        version=package.version,
        bom_ref=str(url),
        purl=url,
        licenses=[terms],
    )


if __name__ == '__main__':
    if len(sys.argv) == 3:
        pathlib.Path(sys.argv[2]).write_text(sbom(pathlib.Path(sys.argv[1])))
    else:
        TABLE.write_text(table())
