"""The outbox in Django's admin: what waits and what has failed, to be sent again or thrown away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.text import Truncator

from pubsub import outbox
from pubsub.models import OutboxItem, State

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[OutboxItem]
else:
    ModelAdmin = admin.ModelAdmin

#: How many characters are shown of an error in the list, and of a payload.
ERROR, PAYLOAD = 80, 2000

ALL = "all"


class StateFilter(admin.SimpleListFilter):
    """By state; without a choice, all that the server has not acknowledged yet."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """What can be chosen."""
        return [(ALL, "All"), *((str(value), label) for value, label in State.choices)]

    def choices(self, changelist: Any) -> Iterator[Any]:
        """The links; the first is the one without a choice."""
        default, *others = super().choices(changelist)
        yield {**default, "display": "not acknowledged"}
        yield from others

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[OutboxItem]
    ) -> QuerySet[OutboxItem]:
        """The rows of the choice."""
        choice = self.value()
        if choice == ALL:
            return queryset
        chosen = [state for state in State.values if str(state) == choice]
        return queryset.filter(state__in=chosen or outbox.UNSENT)


@admin.register(OutboxItem)
class OutboxItemAdmin(ModelAdmin):
    """Shows the rows and lets nobody change them, other than by the two actions."""

    list_display = [
        *["id", "state", "node", "item_id", "event", "at", "tries", "due", "shortened_error"]
    ]
    list_display_links = ["id"]
    list_filter = [StateFilter]
    search_fields = ["node", "item_id"]
    #: What is set aside comes first, then what is to be sent later.
    ordering = ["-state", "-id"]
    show_full_result_count = False
    actions = ["retry", "discard"]
    readonly_fields = [
        *["state", "node", "item_id", "event", "at", "tries", "error", "due", "sent", "lane"],
        *["interval", "shown_configuration", "shown_change", "shown_payload"],
    ]
    fields = tuple(readonly_fields)

    def get_queryset(self, request: HttpRequest) -> QuerySet[OutboxItem]:
        """The rows, without what may be large."""
        return super().get_queryset(request).defer("payload", "change", "configuration")

    @admin.display(description="error", ordering="error")
    def shortened_error(self, row: OutboxItem) -> str:
        """Its beginning, in one line."""
        return Truncator(" ".join(row.error.split())).chars(ERROR)

    @admin.display(description="payload")
    def shown_payload(self, row: OutboxItem) -> str:
        """Its beginning, and how much more there is."""
        return _beginning(row.payload)

    @admin.display(description="configuration")
    def shown_configuration(self, row: OutboxItem) -> str:
        """As JSON."""
        return _beginning(_json(row.configuration))

    @admin.display(description="change")
    def shown_change(self, row: OutboxItem) -> str:
        """As JSON."""
        return _beginning(_json(row.change))

    # Permissions

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Never: rows are written with what they tell of."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: OutboxItem | None = None) -> bool:
        """Never, by a form."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: OutboxItem | None = None) -> bool:
        """Never, by Django's views, which do not look at the state."""
        return False

    def has_retry_permission(self, request: HttpRequest) -> bool:
        """With Django's permission to change rows."""
        return request.user.has_perm("pubsub.change_outboxitem")

    def has_discard_permission(self, request: HttpRequest) -> bool:
        """With Django's permission to delete rows."""
        return request.user.has_perm("pubsub.delete_outboxitem")

    # Actions

    @admin.action(description="Try again", permissions=["retry"])
    def retry(self, request: HttpRequest, queryset: QuerySet[OutboxItem]) -> None:
        """See :func:`pubsub.outbox.retry`."""
        chosen = queryset.count()
        done = outbox.retry(queryset)
        why = "only what is set aside or to be sent later is tried again"
        self._report(request, f"{done} to be tried again", chosen - done, why)

    @admin.action(description="Discard", permissions=["discard"])
    def discard(self, request: HttpRequest, queryset: QuerySet[OutboxItem]) -> None:
        """See :func:`pubsub.outbox.discard`."""
        chosen = queryset.count()
        done = outbox.discard(queryset)
        self._report(request, f"{done} discarded", chosen - done, "what is acknowledged stays")

    def _report(self, request: HttpRequest, done: str, others: int, why: str) -> None:
        if others > 0:
            self.message_user(request, f"{done}, {others} passed over: {why}.", messages.WARNING)
        else:
            self.message_user(request, f"{done}.", messages.SUCCESS)


# Private


def _beginning(text: str) -> str:
    more = len(text) - PAYLOAD
    return f"{text[:PAYLOAD]} … ({more:,} more characters)" if more > 0 else text


def _json(value: Any) -> str:
    return "" if value is None else json.dumps(value, ensure_ascii=False)
