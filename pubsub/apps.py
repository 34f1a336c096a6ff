"""The app's configuration: finds publications and registers checks when Django is ready."""

from __future__ import annotations

from importlib import import_module

from django.apps import AppConfig, apps
from django.core.checks import register
from django.core.signals import request_finished, request_started
from django.utils.module_loading import autodiscover_modules

from pubsub import context
from pubsub.checks import check_outbox, check_publications, check_settings, check_users


class PubSubConfig(AppConfig):
    """django-pubsub as an installed app."""

    name = "pubsub"
    default_auto_field = "django.db.models.BigAutoField"
    verbose_name = "Publish-subscribe"

    def ready(self) -> None:
        register(check_settings, "pubsub")
        register(check_publications, "pubsub")
        register(check_outbox, "pubsub")
        register(check_users, "pubsub")
        request_started.connect(context.request_began, dispatch_uid="pubsub")
        request_finished.connect(context.request_ended, dispatch_uid="pubsub")
        if apps.is_installed("django.contrib.auth"):  # or its models cannot be imported
            import_module("pubsub.accounts").connect()
        autodiscover_modules("publications")
