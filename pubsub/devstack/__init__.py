"""ejabberd and nginx as private processes, booted from the shipped ``deploy/`` files.

For ``manage.py pubsub_stack``, the demo and the tests.  This is not a way to run a site: in
production the system's own services run, with the same two files.
"""

from pubsub.devstack.errors import StackError
from pubsub.devstack.ports import Ports
from pubsub.devstack.processes import Child, stop_all
from pubsub.devstack.stack import SESSIONS_VARIABLE, Stack, sessions_wanted
from pubsub.devstack.watch import until_told_to_end, watch

__all__ = [
    "SESSIONS_VARIABLE",
    "Child",
    "Ports",
    "Stack",
    "StackError",
    "sessions_wanted",
    "stop_all",
    "until_told_to_end",
    "watch",
]
