"""The status page: the newest statuses, and a form that works with scripts and without."""

from __future__ import annotations

from typing import Any

from django.forms import BaseModelForm
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import reverse_lazy
from django.views.generic import CreateView

from demo.forms import StatusForm
from demo.models import Status

#: How many statuses a page shows.
NEWEST = 50


class StatusPage(CreateView):
    """Shows the newest statuses and takes new ones.

    The page's script posts the form with ``Accept: application/json`` and is answered with the
    errors, or with nothing: the status itself reaches every page, this one included, as an event.
    """

    model = Status
    form_class = StatusForm
    template_name = "demo/status.html"
    success_url = reverse_lazy("status")

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        statuses = Status.objects.all()[:NEWEST]
        return super().get_context_data(statuses=statuses, newest=NEWEST, **kwargs)

    def form_valid(self, form: BaseModelForm) -> HttpResponse:
        response = super().form_valid(form)
        return JsonResponse({}, status=201) if wants_json(self.request) else response

    def form_invalid(self, form: BaseModelForm) -> HttpResponse:
        if wants_json(self.request):
            return JsonResponse({"errors": form.errors.get_json_data()}, status=400)
        response = super().form_invalid(form)
        response.status_code = 400
        return response


def wants_json(request: HttpRequest) -> bool:
    """Whether the page's script asks, not a browser that follows a form."""
    return request.headers.get("Accept") == "application/json"
