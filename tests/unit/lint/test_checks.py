# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Each check of tools/lint finds what it bans and nothing else."""

import pathlib
import textwrap

import pytest

from tools import lint
from tools.lint import checks
from tools.lint import layers

TOP = pathlib.Path(__file__).parents[3]


def codes(text: str, path: str = 'attachworker/tasks/sample.py') -> list[str]:
    """What all checks say about a file with this text."""
    source = lint.Source.parse(path, textwrap.dedent(text))
    return [finding.code for finding in lint.run([source])]


@pytest.mark.parametrize(
    'clause',
    [
        'except:',
        'except Exception:',
        'except BaseException as error:',
        'except (OSError, Exception):',
    ],
)
def test_a_broad_except_is_found(clause: str) -> None:
    assert codes(f'try:\n    run()\n{clause}\n    pass\n') == ['AW104']


def test_a_narrow_except_is_fine() -> None:
    text = 'try:\n    run()\nexcept (OSError, ValueError):\n    pass\n'
    assert codes(text) == []


def test_a_broad_except_that_raises_again_is_fine() -> None:
    text = 'try:\n    run()\nexcept BaseException:\n    undo()\n    raise\n'
    assert codes(text) == []


def test_a_broad_except_that_raises_something_else_is_found() -> None:
    text = 'try:\n    run()\nexcept Exception:\n    raise OSError\n'
    assert codes(text) == ['AW104']


def test_a_broad_except_is_allowed_in_its_function_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a table that names one method of a class
    path = 'attachworker/worker/dispatcher.py'
    monkeypatch.setitem(checks.BROAD_EXCEPT, path, frozenset({'Worker.run'}))
    # When two methods catch everything
    text = """
    class Worker:
        def run(self):
            try:
                work()
            except Exception:
                log()

        def other(self):
            try:
                work()
            except Exception:
                log()
    """
    # Then only the one that is not named is reported
    assert codes(text, path) == ['AW104']


def test_every_allowed_broad_except_exists() -> None:
    for path, names in checks.BROAD_EXCEPT.items():
        text = (TOP / path).read_text(encoding='utf-8')
        source = lint.Source.parse(path, text)
        found = {name for name, _ in checks.handlers(source.tree)}
        assert names <= found, f'{path}: remove what is gone from the table'


def test_a_task_without_reversion_strategy_is_found() -> None:
    text = '''
    class Connect(base.Task):
        """Connect one target."""

    class Slowly(Connect):
        pass
    '''
    assert codes(text) == ['AW105', 'AW105']


def test_a_task_with_reversion_strategy_is_fine() -> None:
    text = '''
    class Connect(task.Task[int]):
        """Connect one target.

        Reversion strategy: disconnect it.
        """

    class Path:
        """No task at all."""
    '''
    assert codes(text) == []


@pytest.mark.parametrize(
    'path',
    [
        'attachworker/utils.py',
        'attachworker/host/helpers.py',
        'attachworker/bus/common/transport.py',
        'tests/unit/misc.py',
    ],
)
def test_a_name_that_says_nothing_is_found(path: str) -> None:
    assert 'AW107' in codes('', path)


@pytest.mark.parametrize(
    'text',
    [
        'from attachworker.conf import CONF\n',
        'from oslo_config.cfg import CONF\n',
        'from oslo_config import cfg\n\nhost = cfg.CONF.host\n',
    ],
)
def test_reading_the_configuration_is_found(text: str) -> None:
    path = 'attachworker/host/sample.py'
    assert 'AW108' in codes(text, path)


@pytest.mark.parametrize(
    'path',
    [
        'attachworker/cmd/worker.py',
        'attachworker/conf/opts.py',
        'attachworker/connectors/__init__.py',
        'attachworker/worker/service.py',
        'tests/unit/test_conf.py',
    ],
)
def test_some_may_read_the_configuration(path: str) -> None:
    text = 'from oslo_config import cfg\n\nhost = cfg.CONF.host\n'
    assert codes(text, path) == []


@pytest.mark.parametrize(
    'text',
    [
        'from oslo_messaging._drivers import amqpdriver\n',
        'import oslo_messaging._drivers.common\n',
        'def look(transport):\n    return transport._driver\n',
    ],
)
def test_one_file_uses_what_is_private_to_oslo_messaging(text: str) -> None:
    text = 'from attachworker import threading_backend\n' + text
    assert codes(text, 'attachworker/cmd/steps.py') == ['AW110']
    assert codes(text, 'attachworker/bus/transport.py') == []


@pytest.mark.parametrize(
    'text',
    [
        'import oslo_messaging as messaging\n',
        'from oslo_versionedobjects import fields\n',
        'from oslo_service import service\n',
    ],
)
def test_threads_are_chosen_before_eventlet_is(text: str) -> None:
    chosen = 'from attachworker import threading_backend\n'
    assert codes(text, 'attachworker/client.py') == ['AW111']
    assert codes(text + chosen, 'attachworker/client.py') == ['AW111']
    assert codes(chosen + text, 'attachworker/client.py') == []
    # Their packages have done so already
    assert codes(text, 'attachworker/bus/serializer.py') == []
    assert codes(text, 'attachworker/bus/__init__.py') == ['AW111']


def test_each_package_that_is_said_to_choose_threads_does() -> None:
    for name in checks.CHOOSING:
        path = f'attachworker/{name}/__init__.py'
        source = lint.Source.parse(path, (TOP / path).read_text())
        names = [found for _, found in layers.imported(source)]
        assert f'attachworker.{checks.BACKEND}' in names


def test_hacking_explains_every_code() -> None:
    text = (TOP / 'HACKING.rst').read_text(encoding='utf-8')
    assert [code for code in lint.CHECKS if f'``{code}``' not in text] == []
