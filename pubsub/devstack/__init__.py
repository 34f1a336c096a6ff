"""ejabberd and nginx as private processes, booted from the shipped ``deploy/`` files.

For ``manage.py pubsub_stack``, the demo and the tests.  This is not a way to run a site: in
production the system's own services run, with the same two files.
"""

from .errors import StackError
from .ports import Ports
from .stack import Stack

__all__ = ["Ports", "Stack", "StackError"]
