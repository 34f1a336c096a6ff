"""The doctor: examinations of a live installation, in their order.  Names only, no logic."""

from pubsub.doctor.catalogue import EXAMINATIONS
from pubsub.doctor.examining import Examination, examine
from pubsub.doctor.findings import Finding, Outcome, Result
from pubsub.doctor.site import Site

__all__ = ["EXAMINATIONS", "Examination", "Finding", "Outcome", "Result", "Site", "examine"]
