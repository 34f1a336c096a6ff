"""``manage.py pubsub_key``: the key of users' tokens, as ejabberd needs it; or a new one."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError

from pubsub.conf import conf
from pubsub.credentials import ALGORITHMS, MAKE_ONE, new_key, signing_key


class Command(BaseCommand):
    help = (
        "Prints the JWK (RFC 7517) for ejabberd's jwt_key, made from PUBSUB_JWT_KEY: of RS256 and "
        "EdDSA its public half, of HS256 the secret itself, so let nobody else read the file."
    )

    requires_system_checks = ()  # they would ask for the key that --new is to make

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--new",
            metavar="ALGORITHM",
            choices=ALGORITHMS,
            help="print a new key for PUBSUB_JWT_KEY instead: HS256 (a secret), RS256 or EdDSA (a "
            "private key in PEM)",
        )

    def handle(self, *args: Any, new: str | None, **options: Any) -> None:
        try:
            if new is not None:
                self.stdout.write(new_key(new).strip())
                return
            keys = conf.jwt_keys
            if not keys:
                raise CommandError(f"PUBSUB_JWT_KEY is not set: {MAKE_ONE}.")
            self.stdout.write(json.dumps(signing_key(keys[0]).jwk()))
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from error
