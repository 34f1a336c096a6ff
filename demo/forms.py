"""The form of the status page."""

from django import forms

from demo.models import Status


class StatusForm(forms.ModelForm):
    """A name and a line of text."""

    class Meta:
        model = Status
        fields = ["nick", "message"]
        labels = {"message": "Message"}
        widgets = {
            "nick": forms.TextInput(attrs={"autocomplete": "nickname", "placeholder": "Your name"}),
            "message": forms.TextInput(attrs={"autocomplete": "off", "placeholder": "What's up?"}),
        }
