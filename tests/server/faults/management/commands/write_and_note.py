"""manage.py write_and_note ORDERS: see tests.server.faults.writer."""

import json
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from tests.server.faults.book import Orders
from tests.server.faults.writer import main


class Command(BaseCommand):
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("orders", type=json.loads)

    def handle(self, **options: Any) -> None:
        sys.exit(main(Orders(**options["orders"])))
