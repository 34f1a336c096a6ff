"""The tables of the outbox; on PostgreSQL a trigger tells the relay of new rows."""

from __future__ import annotations

from typing import Any

from django.db import migrations, models

TELL = """
CREATE FUNCTION pubsub_outbox_tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('pubsub_outbox', '');
    RETURN NULL;
END $$;
CREATE TRIGGER pubsub_outbox_tell AFTER INSERT ON pubsub_outboxitem
    FOR EACH STATEMENT EXECUTE FUNCTION pubsub_outbox_tell();
"""
BE_SILENT = """
DROP TRIGGER pubsub_outbox_tell ON pubsub_outboxitem;
DROP FUNCTION pubsub_outbox_tell();
"""


def tell(apps: Any, schema_editor: Any) -> None:
    """Let each statement that writes rows wake who listens, when it is committed."""
    _execute(schema_editor, TELL)


def be_silent(apps: Any, schema_editor: Any) -> None:
    """Take it back."""
    _execute(schema_editor, BE_SILENT)


def _execute(schema_editor: Any, statements: str) -> None:
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(statements, params=None)


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="OutboxLane",
            fields=[
                ("id", models.SmallIntegerField(primary_key=True, serialize=False)),
                ("source", models.CharField(max_length=16)),
            ],
            options={
                "verbose_name": "outbox lane",
            },
        ),
        migrations.CreateModel(
            name="OutboxItem",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "state",
                    models.PositiveSmallIntegerField(
                        choices=[
                            (0, "to be read"),
                            (1, "waiting"),
                            (2, "to be sent later"),
                            (3, "acknowledged"),
                            (4, "set aside"),
                        ],
                        default=1,
                    ),
                ),
                ("lane", models.SmallIntegerField()),
                ("node", models.TextField()),
                ("item_id", models.TextField()),
                ("event", models.CharField(max_length=16)),
                ("payload", models.TextField(blank=True)),
                ("at", models.DateTimeField(verbose_name="happened")),
                ("configuration", models.JSONField(default=dict)),
                ("is_numbered", models.BooleanField(default=False)),
                ("interval", models.FloatField(null=True)),
                ("change", models.JSONField(null=True)),
                ("due", models.DateTimeField(null=True)),
                ("sent", models.DateTimeField(null=True, verbose_name="acknowledged")),
                ("tries", models.PositiveIntegerField(default=0)),
                ("error", models.TextField(blank=True)),
            ],
            options={
                "verbose_name": "outbox item",
                "indexes": [models.Index(fields=["state", "lane", "id"], name="pubsub_outbox_way")],
            },
        ),
        migrations.RunPython(tell, be_silent),
    ]
