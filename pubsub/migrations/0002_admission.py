"""The table of who was let in to which private nodes."""

import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("pubsub", "0001_outbox"),
    ]

    operations = [
        migrations.CreateModel(
            name="Admission",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("name", models.CharField(db_index=True, max_length=500)),
                ("node", models.TextField()),
                ("digest", models.CharField(db_index=True, max_length=64)),
                (
                    "at",
                    models.DateTimeField(
                        default=django.utils.timezone.now, verbose_name="admitted"
                    ),
                ),
                ("is_settled", models.BooleanField(default=False)),
            ],
        ),
    ]
