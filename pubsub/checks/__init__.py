"""System checks: each problem has an id and a hint.

Errors stop ``runserver``; warnings name what is allowed but should be known.
"""

from __future__ import annotations

from pubsub.checks.outbox import check_outbox
from pubsub.checks.publications import check_publications
from pubsub.checks.settings import check_settings
from pubsub.checks.users import check_users

__all__ = ["check_outbox", "check_publications", "check_settings", "check_users"]
