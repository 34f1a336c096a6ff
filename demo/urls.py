"""The addresses of the demo."""

from django.urls import include, path

from demo.views import StatusPage

urlpatterns = [
    path("", StatusPage.as_view(), name="status"),
    path("pubsub/", include("pubsub.urls")),
]
