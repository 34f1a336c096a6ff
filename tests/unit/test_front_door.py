"""pubsub/__init__.py: what the package offers, under which names."""

import pkgutil
import subprocess
import sys

import pubsub as package
from pubsub.registry import PubSub


def test_both_spellings_of_the_original_work():
    from pubsub import publish, pubsub

    assert isinstance(pubsub, PubSub)
    assert package.register == pubsub.register
    assert package.publish is publish


def test_every_name_that_is_promised_exists():
    assert [name for name in package.__all__ if not hasattr(package, name)] == []


def test_no_module_bears_the_name_of_something_exported():
    modules = {module.name for module in pkgutil.iter_modules(package.__path__)}
    assert modules.isdisjoint(package.__all__)


def test_importing_the_package_needs_no_settings_and_opens_nothing():
    program = (
        "import threading, pubsub\n"
        "from django.conf import settings\n"
        "assert not settings.configured\n"
        "assert threading.active_count() == 1\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)
