"""The app's configuration: finds publications and registers checks when Django is ready."""

from __future__ import annotations

from django.apps import AppConfig
from django.core.checks import register
from django.utils.module_loading import autodiscover_modules

from pubsub.checks import check_outbox, check_publications, check_settings


class PubSubConfig(AppConfig):
    """django-pubsub as an installed app."""

    name = "pubsub"
    default_auto_field = "django.db.models.BigAutoField"
    verbose_name = "Publish-subscribe"

    def ready(self) -> None:
        register(check_settings, "pubsub")
        register(check_publications, "pubsub")
        register(check_outbox, "pubsub")
        autodiscover_modules("publications")
