# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""The wheel and the sdist hold what they should, and the wheel works."""

import email
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import tarfile
import venv
import zipfile

import cyclonedx.schema
import jsonschema
from packaging import requirements
from packaging import utils
import pytest
import referencing

PROJECT = pathlib.Path(__file__).resolve().parents[2]
SHARE = 'data/share/attachworker/'
SHARED = {
    'attachworker.conf.sample',
    'attachworker.container',
    'attachworker.rules.yml',
    'attachworker.service',
    'attachworker.sysusers.conf',
    'attachworker.tmpfiles.conf',
    'grafana-dashboard.json',
    'notify-reload.conf',
}
#: What a distribution builds packages from needs more than the program.
SOURCES = {
    'LICENSE',
    'README.rst',
    'debian/control',
    'debian/rules',
    'devstack/plugin.sh',
    'devstack/settings',
    'doc/source/index.rst',
    'etc/attachworker/attachworker.conf.sample',
    'etc/grafana/grafana-dashboard.json',
    'etc/prometheus/attachworker.rules.yml',
    'etc/quadlet/attachworker.container',
    'etc/systemd/attachworker.service',
    'setup.cfg',
    'tests/install/test_package.py',
}
#: pip must not find packages elsewhere and leave them out.
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}
SCRIPTS = ('attachworker', 'attachctl', 'attachworker-status')


def git(directory, *arguments):
    subprocess.run(
        ['git', '-c', 'user.name=t', '-c', 'user.email=t@t', *arguments],
        cwd=directory,
        check=True,
        capture_output=True,
    )


@pytest.fixture(scope='module')
def built(tmp_path_factory):
    """Build what is in the work tree, in a copy: pbr writes beside it."""
    copy = tmp_path_factory.mktemp('build') / 'attachworker'
    git('/', 'clone', '--no-local', str(PROJECT), str(copy))
    tracked = subprocess.run(
        ['git', 'ls-files', '-z'], cwd=PROJECT, check=True, capture_output=True
    ).stdout
    for name in filter(None, tracked.decode().split('\0')):
        target = copy / name
        if not (PROJECT / name).exists():
            target.unlink(missing_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((PROJECT / name).read_bytes())
    git(copy, 'add', '--all')
    git(copy, 'commit', '--allow-empty', '-m', 'What is built')
    ran = subprocess.run(
        [sys.executable, '-m', 'build'],
        cwd=copy,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    [wheel] = copy.glob('dist/*.whl')
    [sdist] = copy.glob('dist/*.tar.gz')
    return wheel, sdist


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_wheel_has_the_program_and_what_a_host_needs(built):
    wheel, _ = built
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()

    tops = {name.split('/')[0].split('-')[0] for name in names}
    shared = {name.split(SHARE)[1] for name in names if SHARE in name}
    modules = {
        str(path.relative_to(PROJECT))
        for path in PROJECT.glob('attachworker/**/*.py')
    }
    assert tops == {'attachworker'}
    assert shared == SHARED
    assert modules <= set(names)
    assert 'attachworker/py.typed' in names


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_sdist_has_what_packages_are_made_of(built):
    _, sdist = built
    with tarfile.open(sdist) as archive:
        names = {name.partition('/')[2] for name in archive.getnames()}

    assert names >= SOURCES
    assert not [name for name in names if '.venv' in name or '.tox' in name]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_wheel_works_in_an_empty_environment(built, tmp_path):
    # Given an environment with nothing in it
    wheel, _ = built
    venv.create(tmp_path, with_pip=True)
    binaries = tmp_path / 'bin'

    # When the wheel is installed
    subprocess.run(
        [binaries / 'pip', 'install', '-q', '--no-compile', wheel],
        env=ENVIRONMENT,
        check=True,
        capture_output=True,
    )

    # Then all it needs is there, and each script runs
    subprocess.run(
        [binaries / 'pip', 'check'],
        env=ENVIRONMENT,
        check=True,
        capture_output=True,
    )
    for script in SCRIPTS:
        ran = subprocess.run(
            [binaries / script, '--help'],
            cwd=tmp_path,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
        )
        assert ran.returncode == 0, ran.stderr
        assert script in ran.stdout
    assert SHARED == {
        file.name for file in (tmp_path / 'share/attachworker').iterdir()
    }


def _cyclonedx_validator():
    """What says whether something is CycloneDX 1.6.

    The library's own needs packages that jsonschema then imports wherever
    it is itself imported, which takes more than a second.
    """
    directory = pathlib.Path(cyclonedx.schema.__file__).parent / '_res'
    schemas = {
        path.name: json.loads(path.read_text())
        for path in directory.glob('*.SNAPSHOT.schema.json')
    }
    whole = schemas['bom-1.6.SNAPSHOT.schema.json']
    base = whole['$id'].rpartition('/')[0]
    registry = referencing.Registry().with_resources(
        (f'{base}/{name}', referencing.Resource.from_contents(one))
        for name, one in schemas.items()
    )
    return jsonschema.Draft7Validator(whole, registry=registry)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_bill_of_materials_is_that_of_the_wheel(built, tmp_path):
    # When the bill of materials of the wheel is made
    wheel, _ = built
    file = tmp_path / 'sbom.json'
    subprocess.run(
        [sys.executable, '-m', 'tools.dependencies', str(wheel), str(file)],
        cwd=PROJECT,
        check=True,
    )

    # Then it is one, and of this very file
    bill = json.loads(file.read_text())
    _cyclonedx_validator().validate(bill)
    itself = bill['metadata']['component']
    [digest] = itself['hashes']
    assert digest['alg'] == 'SHA-256'
    assert digest['content'] == hashlib.sha256(wheel.read_bytes()).hexdigest()
    # And it names all that the wheel asks for, with the terms of each
    listed = {one['name']: one for one in bill['components']}
    assert all(one['licenses'] for one in listed.values())
    with zipfile.ZipFile(wheel) as archive:
        [name] = [n for n in archive.namelist() if n.endswith('/METADATA')]
        asked = email.message_from_bytes(archive.read(name))
    for line in asked.get_all('Requires-Dist'):
        one = requirements.Requirement(line)
        if one.marker is None or one.marker.evaluate({'extra': ''}):
            assert utils.canonicalize_name(one.name) in listed
