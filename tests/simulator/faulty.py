# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0

"""Verbs that go wrong as planned, over simulated or real ones."""

from collections.abc import Callable
import functools
from typing import Any
from typing import cast

from tests.simulator import faults
from tests.simulator import verbs as verb_names


class FaultyVerbs:
    """The same verbs, with the faults of a plan at their seam.

    :param verbs: any object with all verbs: the simulator's client, or the
        package attachworker.privileged
    """

    def __init__(
        self, verbs: verb_names.Verbs, plan: faults.FaultPlan
    ) -> None:
        self.plan = plan
        self.iscsi = cast(verb_names.ISCSIVerbs, _Group('iscsi', verbs, plan))
        self.scsi = cast(verb_names.SCSIVerbs, _Group('scsi', verbs, plan))
        self.block = cast(verb_names.BlockVerbs, _Group('block', verbs, plan))
        self.encryption = cast(
            verb_names.EncryptionVerbs, _Group('encryption', verbs, plan)
        )
        self.loop = cast(verb_names.LoopVerbs, _Group('loop', verbs, plan))
        self.mounts = cast(
            verb_names.MountsVerbs, _Group('mounts', verbs, plan)
        )
        self.nvme = cast(verb_names.NVMeVerbs, _Group('nvme', verbs, plan))
        self.rbd = cast(verb_names.RBDVerbs, _Group('rbd', verbs, plan))
        self.removals = cast(
            verb_names.RemovalsVerbs, _Group('removals', verbs, plan)
        )
        self.process = cast(
            verb_names.ProcessVerbs, _Group('process', verbs, plan)
        )
        self.processes = cast(
            verb_names.ProcessesVerbs, _Group('processes', verbs, plan)
        )
        self.multipath = cast(
            verb_names.MultipathVerbs, _Group('multipath', verbs, plan)
        )


class _Group:
    def __init__(
        self, name: str, verbs: verb_names.Verbs, plan: faults.FaultPlan
    ) -> None:
        self._name = name
        self._verbs = verbs
        self._plan = plan

    def __getattr__(self, name: str) -> Callable[..., Any]:
        verb = f'{self._name}.{name}'
        if verb not in verb_names.SIGNATURES:
            raise AttributeError(name)
        return functools.partial(call, self._verbs, self._plan, verb)


def call(
    verbs: verb_names.Verbs,
    plan: faults.FaultPlan,
    verb: str,
    /,
    *positional: Any,
    **keywords: Any,
) -> Any:
    """Call a verb with at most one fault before and one after it."""
    arguments = verb_names.bind(verb, positional, keywords)
    fault = plan.take(faults.BEFORE, verb, arguments)
    if fault is not None:
        if fault.kind is faults.Fault.FAIL_BEFORE:
            raise fault.error()
        if fault.kind is faults.Fault.FAIL_EXIT:
            return fault.exit_code, 'injected'
        fault.hold()
    # positional: what oslo.privsep passes on is positional or by keyword,
    # and both must work
    result = verb_names.function(verbs, verb)(*positional, **keywords)
    fault = plan.take(faults.AFTER, verb, arguments)
    if fault is not None:
        if fault.kind is faults.Fault.FAIL_AFTER:
            raise fault.error()
        fault.hold()
    return result
