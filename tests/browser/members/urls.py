from django.contrib.auth.views import LogoutView
from django.urls import include, path

from tests.browser.members import views

urlpatterns = [
    path("", views.home),
    path("prebound/", views.prebound),
    path("change/", views.change),
    path("login/<name>/<path:to>", views.log_in),
    path("login/<name>/", views.log_in),
    path("logout/", LogoutView.as_view()),
    path("pubsub/", include("pubsub.urls")),
]
